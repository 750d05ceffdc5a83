-- Views over one store. Under them, in the schema `raw`, stand the tables that Python fills from the configs and
-- manifests (campaigns, steps, evaluations) and the Parquet files those manifests name (step_rows, evaluation_rows).
-- A step without a manifest is in none of them.

-- One row per campaign, with its whole config as JSON.
CREATE VIEW campaigns AS FROM raw.campaigns;

-- One row per training response.
CREATE VIEW trajectories AS
SELECT r.campaign, r.step, c.max_calls, r.* EXCLUDE (campaign, step)
FROM raw.step_rows AS r LEFT JOIN campaigns AS c USING (campaign);

-- One row per evaluation response; `temperature` 0 is greedy. `evaluation` is the digest of all that decides one.
-- `settings` is JSON: those that perturb its results, such as engine.max_num_seqs. Both are NULL where an earlier
-- version of torl made the evaluation.
CREATE VIEW evaluations AS
SELECT m.campaign, m.step, m.benchmark, m.temperature, coalesce(m.max_calls, c.max_calls) AS max_calls,
  m.samples, m.problems_digest, m.evaluation, m.settings, m.created_at AS evaluated_at, r.* EXCLUDE (file)
FROM raw.evaluation_rows AS r
LEFT JOIN (SELECT *, unnest(files) AS file FROM raw.evaluations) AS m USING (file)
LEFT JOIN campaigns AS c ON c.campaign = m.campaign;

-- One row per executed call of a training response; `number` counts from 1 within the response.
CREATE VIEW calls AS
SELECT campaign, step, trajectory_id, group_id, problem_id, kind, correct, number, call.*
FROM (
  SELECT t.*, unnest(tool_calls) AS call, generate_subscripts(tool_calls, 1) AS number
  FROM trajectories AS t
);

-- One row per finished step: lineage, the update's metrics, wall time by phase. `signal_share` is the share of groups
-- whose rewards differ; the step learned from these alone. `settings` is JSON: those that may change when a campaign is
-- resumed and perturb results, such as trainer.processes. Both are NULL where an earlier version of torl made the step.
-- `grader` is the version of the grader that judged the step's responses.
CREATE VIEW steps AS
SELECT *, metrics['signal_share'] AS signal_share, coalesce(phases_s['total'], list_sum(map_values(phases_s))) AS step_time_s
FROM raw.steps;

-- Wall time of each phase of each step. `overhead` is what the step's total holds beyond its phases.
CREATE VIEW phases AS
WITH named AS (
  SELECT campaign, step, step_time_s, unnest(map_entries(phases_s)) AS entry FROM steps
),
measured AS (
  SELECT campaign, step, entry.key AS phase, entry.value AS seconds FROM named WHERE entry.key <> 'total'
)
FROM measured
UNION ALL
SELECT s.campaign, s.step, 'overhead', greatest(0, s.step_time_s - coalesce(sum(m.seconds), 0))
FROM steps AS s LEFT JOIN measured AS m USING (campaign, step)
WHERE s.phases_s['total'] IS NOT NULL
GROUP BY s.campaign, s.step, s.step_time_s;

-- The figures the paper watches during training (its Figure 5). NULL where there is nothing to count.
CREATE VIEW figure5 AS
WITH counted AS (
  SELECT *,
    len(tool_calls) AS executed,
    list_sum(list_transform(tool_calls, lambda call: coalesce(call.blocks, 1))) AS executed_blocks,
    len(list_filter(tool_calls, lambda call: call.status = 'ok')) AS passed
  FROM trajectories
)
SELECT campaign, step, any_value(max_calls) AS max_calls,
  count(*) AS responses,
  avg((n_code_blocks > 0)::INTEGER) AS code_ratio,
  sum(passed) / nullif(sum(executed), 0) AS pass_ratio,
  sum(passed) FILTER (correct) / nullif(sum(executed) FILTER (correct), 0) AS pass_ratio_in_right,
  sum(passed) FILTER (NOT correct) / nullif(sum(executed) FILTER (NOT correct), 0) AS pass_ratio_in_wrong,
  coalesce(sum(executed_blocks), 0) / nullif(sum(n_code_blocks), 0) AS executed_code_ratio,
  avg(code_before_answer::INTEGER) AS code_before_answer_ratio,
  any_value(grader) AS grader
FROM counted
GROUP BY campaign, step
ORDER BY campaign, step;

-- How training goes. Accuracy and reward are over judged responses; `ungraded_share` is what could not be judged.
-- `unrecognised_calls` is how many a response has of what looks like a call and is none. Rows with different `grader`
-- are not comparable: another version of the grader may judge the same response otherwise.
CREATE VIEW progress AS
WITH rows AS (
  SELECT campaign, step,
    count(*) AS responses,
    avg(reward) AS reward,
    avg(correct::INTEGER) AS accuracy,
    avg(model_tokens + tool_tokens) AS response_tokens,
    avg(model_tokens) AS model_tokens,
    avg(tool_tokens) AS tool_tokens,
    avg(len(tool_calls)) AS calls,
    avg(unrecognised_calls) AS unrecognised_calls,
    avg((stop = 'length')::INTEGER) AS truncated_share,
    avg((correct IS NULL)::INTEGER) AS ungraded_share
  FROM trajectories
  GROUP BY campaign, step
),
times AS (
  SELECT campaign, step, map_from_entries(list({'k': phase, 'v': seconds} ORDER BY phase)) AS phases_s
  FROM phases
  GROUP BY campaign, step
)
SELECT s.campaign, s.step, s.grader, r.* EXCLUDE (campaign, step), s.step_time_s, t.phases_s
FROM steps AS s
LEFT JOIN rows AS r USING (campaign, step)
LEFT JOIN times AS t USING (campaign, step)
ORDER BY s.campaign, s.step;

-- One row per finished step, and per evaluation, and source of its problems; `benchmark` NULL is training.
CREATE VIEW sources AS
WITH responses AS (
  SELECT *, NULL AS benchmark, NULL AS temperature, NULL AS evaluation FROM trajectories
  UNION ALL BY NAME
  SELECT * FROM evaluations
)
SELECT campaign, step, benchmark, temperature, evaluation, source,
  count(*) AS responses,
  avg(reward) AS reward,
  avg(correct::INTEGER) AS accuracy,
  avg((correct IS NULL)::INTEGER) AS ungraded_share,
  avg((n_code_blocks > 0)::INTEGER) AS code_ratio,
  sum(len(list_filter(tool_calls, lambda call: call.status = 'ok'))) / nullif(sum(len(tool_calls)), 0) AS pass_ratio,
  avg(model_tokens + tool_tokens) AS response_tokens,
  avg((stop = 'length')::INTEGER) AS truncated_share,
  any_value(grader) AS grader
FROM responses
GROUP BY ALL
ORDER BY ALL;

-- One row per evaluation and kind of problem; `kind` NULL is all of them together.
CREATE VIEW scores AS
SELECT campaign, any_value(max_calls) AS max_calls, benchmark, temperature, any_value(samples) AS samples,
  any_value(problems_digest) AS problems_digest, evaluation, any_value(settings) AS settings,
  any_value(evaluated_at) AS evaluated_at, any_value(grader) AS grader, step, kind,
  count(*) AS responses,
  avg(correct::INTEGER) AS accuracy,
  avg((correct IS NULL)::INTEGER) AS ungraded_share,
  avg((n_code_blocks > 0)::INTEGER) AS code_ratio,
  sum(len(list_filter(tool_calls, lambda call: call.status = 'ok'))) / nullif(sum(len(tool_calls)), 0) AS pass_ratio,
  avg(unrecognised_calls) AS unrecognised_calls,
  avg(reward) AS reward,
  avg(model_tokens + tool_tokens) AS response_tokens
FROM (SELECT * REPLACE (coalesce(kind, '') AS kind) FROM evaluations)
GROUP BY GROUPING SETS (
  (campaign, benchmark, temperature, evaluation, step), (campaign, benchmark, temperature, evaluation, step, kind)
)
ORDER BY campaign, benchmark, temperature, step, evaluated_at, evaluation, kind NULLS FIRST;
