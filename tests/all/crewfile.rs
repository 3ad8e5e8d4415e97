//! Crew files from the outside: the crews of the manual load, every kind of mistake is found where
//! it is, and no input makes the reader panic.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use boatswain::adapters::crewfile::{
    DiskSource, ListedPrice, LoadOptions, Loaded, PinnedSource, ProviderTable, Source, load, load_prompt,
};
use boatswain::core::chat::{Effect, Milli, ToolSpec};
use boatswain::core::crew::{Crew, Over, Overrides, Pricing, TaskPrompt};
use boatswain::core::ids::Name;
use boatswain::core::money::{Caps, NanoUsd, Price};
use boatswain::core::template::{ResultView, Scope};
use serde_json::json;

const PRICE: Price =
    Price { input: 400_000_000, output: 1_600_000_000, cache_read: 100_000_000, cache_write: 400_000_000 };

fn tool(name: &str, required: &[&str]) -> ToolSpec {
    let fields: serde_json::Map<_, _> =
        required.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
    ToolSpec {
        name: name.to_owned(),
        description: format!("does {name}"),
        parameters: json!({"type": "object", "properties": fields, "required": required, "additionalProperties": false}),
        effect: Effect::Read,
        timeout_ms: 60_000,
        max_result: 4000,
    }
}

/// Loads with the built-in providers, four tools, and prices of `openai` only.
fn read(source: &dyn Source, path: &str, overrides: &Overrides) -> Loaded {
    with(overrides, |options| load(source, path, options))
}

fn with<T>(overrides: &Overrides, run: impl FnOnce(&LoadOptions<'_>) -> T) -> T {
    let provider = |kind: &str, key: Option<&str>| ProviderTable {
        kind: kind.to_owned(),
        api_key_env: key.map(str::to_owned),
        ..ProviderTable::default()
    };
    let providers: BTreeMap<Name, ProviderTable> = [
        ("openai", provider("openai", Some("OPENAI_API_KEY"))),
        ("ollama", provider("ollama", None)),
        ("offline", provider("offline", None)),
    ]
    .map(|(name, table)| (Name::new(name).unwrap(), table))
    .into();
    let tools = [
        tool("files.read", &["path"]),
        tool("files.list", &["path"]),
        tool("files.search", &["text"]),
        tool("files.write", &["path", "text"]),
    ];
    let price = |provider: &str, id: &str| {
        let known = provider == "openai" && id.starts_with("gpt-4.1");
        known.then_some(ListedPrice { price: PRICE, context_window: Some(1_000_000) })
    };
    run(&LoadOptions {
        overrides,
        builtin_tools: &tools,
        price: &price,
        providers: &providers,
        limits: Caps::default(),
    })
}

fn shown(loaded: &Loaded) -> String {
    boatswain::adapters::crewfile::text(loaded, false)
}

fn crews() -> DiskSource {
    DiskSource::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crews"))
}

fn good(path: &str) -> Arc<Crew> {
    let loaded = read(&crews(), path, &Overrides::default());
    assert!(loaded.problems.is_empty(), "{}", shown(&loaded));
    loaded.crew.unwrap()
}

fn files(all: &[(&str, &str)]) -> PinnedSource {
    PinnedSource(all.iter().map(|(path, text)| ((*path).to_owned(), Arc::from(*text))).collect())
}

#[test]
fn the_crews_of_the_manual_load() {
    let report = good("report.toml");
    assert_eq!(report.tasks.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["research", "draft", "draft_review"]);
    assert_eq!(report.tasks[report.output].name.as_str(), "draft");
    assert_eq!((report.loops[0].body.as_slice(), report.loops[0].max_rounds), ([1, 2].as_slice(), 3));
    assert_eq!(report.budget.caps.usd, Some(NanoUsd(250_000_000)));
    assert_eq!(report.budget.origin, "report.toml");
    assert_eq!(report.agents["writer"].role, "writer");

    let handbook = good("handbook.toml");
    let Some(Over::Rows(rows)) = handbook.tasks[0].repeat.as_ref().map(|r| &r.over) else { panic!("no rows") };
    assert_eq!(rows[0].item["brief"], json!("One line,\r\nand another \"quoted\" one"));
    assert_eq!(handbook.agents["author"].model.settings.max_output, 1200);
    let Some(TaskPrompt::Chosen(chosen)) = &handbook.tasks[0].prompt else { panic!("one prompt for all") };
    let mut scope = Scope::default();
    scope.json("item", rows[1].item.clone());
    scope.text("window", "Before.".into());
    let path = handbook.templates.render(chosen, &scope).unwrap();
    let prompt = handbook.templates.find(&path).unwrap();
    let text = handbook.templates.render(&prompt, &scope).unwrap();
    assert_eq!(
        text,
        "Be brief. Write for an engineer.\nAnalyse. What came before: <window>Before.</window>\n\nRisks: What can go wrong"
    );

    let launch = good("launch.toml");
    assert_eq!(launch.crews["legal"].budget.share, Some(200));
    assert!(launch.crews["legal"].crew.budget.caps.is_none(), "defaults are for the top crew");
    assert_eq!(good("inbox.toml").tools.len(), 3);
}

#[test]
fn the_rest_of_the_language_loads() {
    let plan = good("plan.toml");
    let task = |name: &str| plan.task(&Name::new(name).unwrap()).unwrap();
    assert_eq!(plan.tasks[plan.output].name.as_str(), "publish");
    assert_eq!(task("fallback").rescues.as_ref().map(Name::as_str), Some("plan"));
    assert!(plan.loops[0].per_item);
    assert!(task("publish").after.iter().any(|name| name.as_str() == "plan"), "`when` implies `after`");
    assert_eq!(plan.budget.warn_at, [500, 900]);
    assert_eq!(plan.agents["planner"].model.settings.temperature, Some(Milli(200)));

    let mut scope = Scope::default();
    let verdict = json!({"verdict": "revise", "score": 9});
    scope.result("check", ResultView { status: "done".into(), text: verdict.to_string().into(), value: Some(verdict) });
    scope.json("round", 1.into());
    assert_eq!(plan.templates.test(&plan.loops[0].until, &scope), Ok(true), "the judge's fields are known bare");
}

#[test]
fn a_judge_reads_what_the_author_was_told() {
    let report = good("report.toml");
    let Some(TaskPrompt::Fixed(prompt)) = &report.tasks[2].prompt else { panic!("no prompt") };
    let mut scope = Scope::default();
    for (name, text) in [("draft", "One draft."), ("research", "Ten facts.")] {
        scope.result(name, ResultView { status: "done".into(), value: None, text: text.into() });
    }
    scope.json("round", 1.into());
    let text = report.templates.render(prompt, &scope).unwrap();
    assert!(
        text.contains("An 800-word article from the research") && text.contains("<draft>One draft.</draft>"),
        "{text}"
    );
}

#[test]
fn a_prompt_runs_as_a_crew_of_one() {
    let given = [("file".to_owned(), true)];
    let loaded = with(&Overrides::default(), |options| load_prompt(&crews(), "prompts/summarise.md", &given, options));
    assert!(loaded.problems.is_empty(), "{}", shown(&loaded));
    let crew = loaded.crew.unwrap();
    assert_eq!(crew.agents["summarise"].model.settings.temperature, Some(Milli(200)));
    let mut scope = Scope::default();
    scope.json("file", json!("a.md"));
    let system = crew.templates.render(&crew.agents["summarise"].system, &scope).unwrap();
    assert_eq!(system, "Be brief. Write for an engineer.\nYou sum up a.md. ");
    // Resume has the pins only.
    let pins = PinnedSource(loaded.pins.into_iter().map(|pin| (pin.path, pin.text)).collect());
    let again = read(&pins, "summarise.solo.toml", &Overrides::default());
    assert!(again.crew.is_some(), "{}", shown(&again));
}

#[test]
fn flags_win_over_files() {
    let caps = Caps { usd: Some(NanoUsd(100_000_000)), ..Caps::default() };
    let flags = Overrides { offline: true, caps, max_turns: Some(2), max_output: Some(100), ..Overrides::default() };
    let crew = read(&crews(), "report.toml", &flags).crew.unwrap();
    assert_eq!((crew.budget.caps.usd, crew.budget.origin.as_str()), (caps.usd, "--max-usd"));
    for agent in crew.agents.values() {
        assert_eq!(agent.model.price, Pricing::Local);
        assert_eq!((agent.max_turns, agent.model.settings.max_output), (2, 100));
    }
    let model = Overrides { model: Some("openai/gpt-4.1-nano".into()), ..Overrides::default() };
    let crew = read(&crews(), "report.toml", &model).crew.unwrap();
    assert!(crew.agents.values().all(|agent| &*agent.model.id == "gpt-4.1-nano"));
}

/// Every file of `tests/invalid` says in comments what is wrong with it: `# expect: E0104 line 3`,
/// perhaps with words that the message or its help contains: `# expect: E0104 line 3: backstory`.
#[test]
fn every_mistake_is_found_where_it_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/invalid");
    let source = DiskSource::new(&folder);
    let mut names: Vec<String> = source.list("").into_iter().filter(|path| path.ends_with(".toml")).collect();
    names.retain(|name| !name.contains('/'));
    assert!(names.len() >= 40, "only {} files of mistakes", names.len());
    let mut wrong = Vec::new();
    for name in names {
        let text = std::fs::read_to_string(folder.join(&name)).unwrap();
        let expected: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# expect: ")).collect();
        assert!(!expected.is_empty(), "{name} expects nothing");
        let loaded = read(&source, &name, &Overrides::default());
        let found = boatswain::adapters::crewfile::json(&loaded);
        let says = |problem: &serde_json::Value| {
            format!("{} {}", problem["message"].as_str().unwrap(), problem["help"].as_str().unwrap_or_default())
        };
        let place = |problem: &serde_json::Value| {
            let file = problem["file"].as_str().unwrap();
            let file = if file == name { String::new() } else { format!(" in {file}") };
            format!("{} line {}{file}", problem["code"].as_str().unwrap(), problem["line"])
        };
        for want in &expected {
            let (at, words) = want.split_once(": ").unwrap_or((want, ""));
            if !found.iter().any(|one| place(one) == at && says(one).contains(words)) {
                wrong.push(format!("{name}: expected {want}\n{}", shown(&loaded)));
            }
        }
        let more = found
            .iter()
            .filter(|one| !expected.iter().any(|want| want.split_once(": ").unwrap_or((want, "")).0 == place(one)));
        wrong.extend(more.map(|one| format!("{name}: not expected: {} ({})", place(one), says(one))));
        let errors = expected.iter().any(|want| want.starts_with('E'));
        assert_eq!(loaded.crew.is_none(), errors, "{name} gave a crew in spite of its errors");
        assert!(!shown(&loaded).contains("hunter2"), "{name}: a secret was shown");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_cut_or_broken_file_panics() {
    let whole = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crews/plan.toml")).unwrap();
    for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
        let source = files(&[("plan.toml", &whole[..end])]);
        let loaded = read(&source, "plan.toml", &Overrides::default());
        shown(&loaded);
        assert!(loaded.crew.is_none() || !whole[end..].contains("[tasks.publish]"));
    }
    let deep = format!("schema = 1\na = {}", "[".repeat(100_000));
    assert!(read(&files(&[("a.toml", &deep)]), "a.toml", &Overrides::default()).crew.is_none());
    let nested = format!("schema = 1\n[tasks.a]\nagent = 'b'\nwhen = '{}1{}'", "(".repeat(5000), ")".repeat(5000));
    assert!(read(&files(&[("a.toml", &nested)]), "a.toml", &Overrides::default()).crew.is_none());
}
