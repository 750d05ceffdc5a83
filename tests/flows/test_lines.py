import asyncio
import io
import json
from typing import Any

from flows.lines import positive_of, serve_lines, text_of


def serve(text: str) -> tuple[int, list[dict[str, Any]]]:
    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(positive_of(request, "delay_s", most=10) or 0)
        return {"upper": text_of(request, "text").upper()}

    out = io.StringIO()
    refused = asyncio.run(serve_lines(answer, io.StringIO(text), out))
    return refused, [json.loads(line) for line in out.getvalue().splitlines()]


def test_lines_are_answered_as_they_are_done_and_matched_by_id() -> None:
    slow, quick = {"id": "slow", "text": "a", "delay_s": 0.2}, {"id": 7, "text": "b"}
    refused, replies = serve(json.dumps(slow) + "\n\n" + json.dumps(quick) + "\n")
    assert refused == 0
    assert replies == [{"id": 7, "upper": "B"}, {"id": "slow", "upper": "A"}]


def test_a_bad_line_is_answered_with_its_number_and_does_not_stop_the_others() -> None:
    refused, replies = serve('not json\n{"text": "x"}\n{"id": 1, "text": 5}\n{"id": 2, "text": "ok"}\n')
    assert refused == 3
    by_id = {reply["id"]: reply for reply in replies if reply["id"] is not None}
    assert by_id[2] == {"id": 2, "upper": "OK"}
    assert by_id[1]["line"] == 3
    assert "text is 5" in by_id[1]["error"]
    assert [(r["line"], r["error"].split(" (")[0]) for r in replies if r["id"] is None] == [
        (1, "the line 'not json\\n' is not JSON"),
        (2, 'the line \'{"text": "x"}\\n\' has no id. Answers are matched by id. Add an id of any JSON type.'),
    ]


def test_a_number_out_of_range_is_refused() -> None:
    refused, replies = serve('{"id": 1, "text": "x", "delay_s": -1}\n{"id": 2, "text": "x", "delay_s": true}\n')
    assert refused == 2
    assert all("delay_s is" in reply["error"] for reply in replies)
