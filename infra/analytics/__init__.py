"""Questions about a store: SQL views, the HTML report, one trajectory in colour. DuckDB is used here only."""

from infra.analytics.database import ask, query
from infra.analytics.report import report
from infra.analytics.show import show

__all__ = ["ask", "query", "report", "show"]
