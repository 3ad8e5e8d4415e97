//! Words that people write by habit. Invariant: each gets the word that is meant here, never a guess.

/// Words of other tools: table (empty: any), word, what to write here.
pub static HABITS: &[(&str, &str, &str)] = &[
    ("", "process", "order comes from `context` and `after` of the tasks; a lead is `lead` in [crew]"),
    ("", "max_iter", "write `max_turns` in [agents.N]"),
    ("", "max_iterations", "write `max_turns` in [agents.N], or `max_rounds` of a `review`"),
    ("", "depends_on", "write `context = [...]` (gets the results) or `after = [...]` (only waits)"),
    ("", "needs", "write `context = [...]` (gets the results) or `after = [...]` (only waits)"),
    ("", "instructions", "write `description` in the task, or a role prompt in prompts/"),
    ("", "system_prompt", "write a role prompt in prompts/ and name it with `prompt`"),
    ("", "llm", "write `model`: an alias of [models] or `provider/model-id`"),
    ("", "human_input", "write `approval` in the task"),
    ("", "manager_agent", "write `lead` in [crew]"),
    ("", "manager_llm", "write `lead` in [crew]; the lead is an agent with a `model`"),
    ("", "allow_delegation", "write `delegates = [...]` in [agents.N]"),
    ("", "output_json", "write `output_schema`"),
    ("", "output_pydantic", "write `output_schema`"),
    ("", "guardrail", "write `guardrails = [...]`"),
    ("", "max_rpm", "write `rpm` in [providers.N]"),
    ("", "verbose", "use the flag `-v`; every event is in the journal anyway"),
    ("", "async_execution", "leave it out: tasks that do not wait for each other run at once"),
    ("models", "max_tokens", "write `max_output` (of one call); `max_tokens` is a total of a budget"),
    ("agents", "max_tokens", "write `max_output` (of one call); a total is `budget = { max_tokens = … }`"),
    ("tasks", "max_tokens", "write `max_output` (of one call); a total is `budget = { max_tokens = … }`"),
];
