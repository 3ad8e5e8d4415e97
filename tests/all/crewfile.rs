//! Crew files from the outside: the crews of the manual load, every kind of mistake is found where
//! it is, and no input makes the reader panic.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use boatswain::adapters::crewfile::{
    CODES, DiskSource, ListedPrice, LoadOptions, Loaded, PinnedSource, ProviderTable, Source, load, load_prompt,
};
use boatswain::core::chat::{Effect, Milli, ToolSpec};
use boatswain::core::crew::{Crew, Over, Overrides, Pricing, TaskPrompt, ToolPlaces, ToolSource};
use boatswain::core::ids::Name;
use boatswain::core::money::{Caps, NanoUsd, Price};
use boatswain::core::template::{ResultView, Scope};
use serde_json::json;

const PRICE: Price =
    Price { input: 400_000_000, output: 1_600_000_000, cache_read: 100_000_000, cache_write: 400_000_000, above: None };

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
        ("anthropic", provider("anthropic", Some("ANTHROPIC_API_KEY"))),
        ("ollama", provider("ollama", None)),
        ("offline", provider("offline", None)),
    ]
    .map(|(name, table)| (Name::new(name).unwrap(), table))
    .into();
    let tools = [
        tool("files.read", &["path"]),
        tool("files.move", &["from", "to"]),
        tool("files.list", &["path"]),
        tool("files.search", &["text"]),
        tool("files.write", &["path", "text"]),
    ];
    let price = |provider: &str, id: &str| {
        let known = (provider == "openai" && id.starts_with("gpt-4.1")) || provider == "anthropic";
        known.then_some(ListedPrice {
            price: PRICE,
            context_window: Some(1_000_000),
            tokenizer: None,
            from: "a test".into(),
        })
    };
    run(&LoadOptions {
        overrides,
        builtin_tools: &tools,
        price: &price,
        providers: &providers,
        limits: Caps::default(),
        limits_from: "",
        refuses: None,
        pinned: false,
        rules: boatswain::core::rules::RULES,
    })
}

fn shown(loaded: &Loaded) -> String {
    boatswain::adapters::crewfile::text(loaded, false, usize::MAX)
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
    scope.shared("item", rows[1].item.clone());
    scope.text("window", "Before.".into());
    let path = handbook.templates.render(chosen, &scope).unwrap();
    let prompt = handbook.templates.find(&path).unwrap();
    let text = handbook.templates.render(&prompt, &scope).unwrap();
    assert_eq!(
        text,
        "Be brief. Write for an engineer.\nAnalyse. What came before: <window>Before.</window>\n\nRisks: What can go wrong"
    );

    let [cooler, shorter] = &*handbook.tasks[0].retry else { panic!("two entries") };
    assert_eq!((cooler.temperature, cooler.prompt.is_none(), cooler.model.is_none()), (Some(Milli(200)), true, true));
    let Some(TaskPrompt::Fixed(short)) = &shorter.prompt else { panic!("a prompt of its own") };
    let text = handbook.templates.render(short, &scope).unwrap();
    assert_eq!(text, "In a few words. <window>Before.</window>\n\nRisks: What can go wrong", "with the description");

    let launch = good("launch.toml");
    assert_eq!(launch.crews["legal"].budget.share, Some(200));
    assert!(launch.crews["legal"].crew.budget.caps.is_none(), "defaults are for the top crew");
    let inbox = good("inbox.toml");
    assert_eq!(inbox.tools.len(), 3);
    let [scan] = &*inbox.triggers else { panic!("one trigger") };
    assert_eq!(scan.to_string(), "scan: files inbox/*.pdf, unchanged for 2000 ms, one after the other");
    let mut scope = Scope::default();
    scope.json("event", json!({"path": "inbox/a.pdf", "name": "a.pdf", "size": 7, "time": "2026-11-20T07:00:00.000Z"}));
    let file = inbox.templates.render(&scan.inputs["file"], &scope).unwrap();
    assert_eq!(file, "inbox/a.pdf");
    assert_eq!(inbox.trigger_of("scan:inbox/a.pdf:3f").map(|trigger| trigger.name.as_str()), Some("scan"));
    assert!(inbox.trigger_of("order-1234").is_none() && inbox.trigger_of("scanner:x").is_none());
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

/// What is refused today was taken yesterday: a run that has begun is still gone on with.
#[test]
fn a_key_in_what_was_pinned_keeps_no_run_from_going_on() {
    let text = "schema = 1\n[agents.a]\nmodel = 'ollama/x'\ngoal = 'key is sk-proj-hunter2hunter2hunter2'\n[tasks.t]\n\
                agent = 'a'\ndescription = 'x'\n";
    let source = files(&[("c.toml", text)]);
    let load = |pinned| {
        with(&Overrides::default(), |options| load(&source, "c.toml", &LoadOptions { pinned, ..*options }).problems)
    };
    assert_eq!(load(false).iter().map(|problem| problem.code).collect::<Vec<_>>(), ["E0110"]);
    assert_eq!(load(true), []);
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

#[test]
fn an_alias_given_on_the_command_line_counts_in_sub_crews() {
    let sub = "schema = 1\n[agents.b]\nmodel = 'ollama/y'\n[tasks.u]\nagent = 'b'\ndescription = 'x'\n";
    let top = "schema = 1\n[models]\nfast = 'openai/gpt-4.1-mini'\n[agents.a]\nmodel = 'ollama/x'\n[crews.sub]\n\
               file = 'sub.toml'\n[tasks.t]\nagent = 'a'\ndescription = 'x'\n[tasks.s]\ncrew = 'sub'\nafter = ['t']\n";
    let flags = Overrides { model: Some("fast".into()), ..Overrides::default() };
    let loaded = read(&files(&[("top.toml", top), ("sub.toml", sub)]), "top.toml", &flags);
    let crew = loaded.crew.as_ref().unwrap_or_else(|| panic!("{}", shown(&loaded)));
    assert_eq!(&*crew.crews["sub"].crew.agents["b"].model.id, "gpt-4.1-mini");
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
        for one in &found {
            let code = one["code"].as_str().unwrap();
            assert!(CODES.iter().any(|(known, _)| *known == code), "{code} is not explained");
        }
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
fn a_table_names_a_builtin_with_folders_and_limits_of_its_own() {
    let text = "schema = 1\n[agents]\na = { model = 'ollama/x', tools = ['file_it'] }\n[tasks.t]\nagent = 'a'\n\
        description = 'Do'\n[tools.file_it]\nuse = 'files.move'\nfrom = 'inbox'\nto = ['archive', 'done/']\n\
        max_calls = 3\nmax_result = 100\ntimeout = '5s'\n";
    let loaded = read(&files(&[("c.toml", text)]), "c.toml", &Overrides::default());
    assert!(loaded.problems.is_empty(), "{}", shown(&loaded));
    let crew = loaded.crew.unwrap();
    let def = &crew.tools["file_it"];
    assert_eq!((def.max_calls, def.spec.max_result, def.spec.timeout_ms), (Some(3), 100, 5_000));
    let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let places = ToolPlaces { from: own(&["inbox"]), to: own(&["archive", "done"]), ..ToolPlaces::default() };
    assert_eq!(def.source, ToolSource::Builtin { name: "files.move".into(), places });
}

#[test]
fn an_agent_file_of_another_tool_is_a_role() {
    let prompt = "---\nname: reviewer\ndescription: Use when: code has changed\ntools: Read, files.read, file_it, *\n\
        model: inherit\ncolor: purple\n---\nYou review code.\n";
    let crew = "schema = 1\n[agents]\nreviewer = { model = 'ollama/x' }\n[tasks.t]\nagent = 'reviewer'\n\
        description = 'Do'\n[tools.file_it]\nuse = 'files.move'\n";
    let all = files(&[("c.toml", crew), ("prompts/reviewer.md", prompt)]);
    let loaded = read(&all, "c.toml", &Overrides::default());
    let said = |loaded: &Loaded| {
        let places = loaded.problems.iter().map(|p| format!("{} {}", p.code, &prompt[p.span.clone()]));
        places.collect::<Vec<_>>()
    };
    let expected = ["W0702 Read", "W0702 *", "W0702 inherit", "W0702 color"];
    assert_eq!(said(&loaded), expected, "{}", shown(&loaded));
    let crew = loaded.crew.unwrap();
    assert_eq!(crew.agents["reviewer"].tools, ["files.read", "file_it"]);
    let flags = Overrides { model: Some("ollama/x".into()), ..Overrides::default() };
    let solo = with(&flags, |options| load_prompt(&all, "prompts/reviewer.md", &[], options));
    assert_eq!(said(&solo), ["W0702 Read", "W0702 file_it", "W0702 *", "W0702 inherit", "W0702 color"]);
    assert_eq!(solo.crew.unwrap().agents["reviewer"].tools, ["files.read"]);
    let pasted = prompt.replace("color: purple", "api_key: hunter2hunter2hunter2");
    let bad = read(
        &files(&[
            (
                "c.toml",
                "schema = 1\n[agents]\nreviewer = { model = 'ollama/x' }\n[tasks.t]\n\
        agent = 'reviewer'\ndescription = 'Do'\n",
            ),
            ("prompts/reviewer.md", &pasted),
        ]),
        "c.toml",
        &Overrides::default(),
    );
    assert!(bad.crew.is_none() && bad.problems.iter().any(|p| p.code == "E0110"), "{}", shown(&bad));
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
    let prompt = "+++\ninputs = [\"a?\"]\n+++\n{% if a %}{{ a | bullets }}{% endif %}é{{ draft }}";
    let rows = "id,t\r\n\"a\",\"b\r\n\"\"c\"\"\"\r\nö,1\r\n";
    let crew = "schema = 1\n[agents.a]\nmodel = 'ollama/x'\nprompt = 'p'\n[tasks.t]\nagent = 'a'\n\
                for_each = 'r.csv'\nkey = 'id'\ndescription = '{{ item.t }}'\n";
    for end in 0..prompt.len().max(rows.len()) {
        let cut = |text: &'static str| text.get(..end).unwrap_or(text);
        let source = files(&[("c.toml", crew), ("prompts/p.md", cut(prompt)), ("r.csv", cut(rows))]);
        shown(&read(&source, "c.toml", &Overrides::default()));
    }
    let deep = format!("schema = 1\na = {}", "[".repeat(100_000));
    assert!(read(&files(&[("a.toml", &deep)]), "a.toml", &Overrides::default()).crew.is_none());
    let nested = format!("schema = 1\n[tasks.a]\nagent = 'b'\nwhen = '{}1{}'", "(".repeat(5000), ")".repeat(5000));
    assert!(read(&files(&[("a.toml", &nested)]), "a.toml", &Overrides::default()).crew.is_none());
}

#[test]
fn the_shipped_crews_and_prompts_load() {
    let source = DiskSource::new(env!("CARGO_MANIFEST_DIR"));
    let crews: Vec<String> = source.list("crews").into_iter().filter(|path| path.ends_with(".toml")).collect();
    assert!(crews.len() >= 4, "{crews:?}");
    for path in crews {
        let loaded = read(&source, &path, &Overrides::default());
        assert!(loaded.problems.is_empty(), "{path}\n{}", shown(&loaded));
    }
    let flags = Overrides { model: Some("openai/gpt-4.1-mini".into()), ..Overrides::default() };
    let given = [("file".to_owned(), true)];
    let loaded = with(&flags, |options| load_prompt(&source, "prompts/summarise.md", &given, options));
    assert!(loaded.problems.is_empty(), "{}", shown(&loaded));
}

#[test]
fn a_crew_is_compiled_again_from_what_was_pinned() {
    let first = read(&crews(), "launch.toml", &Overrides::default());
    assert_eq!(first.providers.len(), 1);
    assert_eq!(first.prices["openai/gpt-4.1"], Pricing::Priced(PRICE));
    assert_eq!(first.notes.len(), 1, "{:?}", first.notes);
    let pins = PinnedSource(first.pins.into_iter().map(|pin| (pin.path, pin.text)).collect());
    for path in ["handbook.toml", "launch.toml"] {
        let loaded = read(&crews(), path, &Overrides::default());
        let pins = PinnedSource(loaded.pins.into_iter().map(|pin| (pin.path, pin.text)).collect());
        let again = read(&pins, path, &Overrides::default());
        assert!(again.crew.is_some(), "{}", shown(&again));
    }
    assert!(read(&pins, "launch.toml", &Overrides::default()).crew.is_some());
}

#[test]
fn what_a_model_refuses_is_said_and_what_its_cache_costs_is_held() {
    let text = "schema = 1\n[models.m]\nid = 'anthropic/claude-sonnet-4-5'\nprice = { input = 3, output = 15 }\n\
        temperature = 0.2\nreasoning = 'xhigh'\n[providers.anthropic]\nstream = false\n\
        [agents.a]\nmodel = 'm'\n[tasks.t]\nagent = 'a'\ndescription = 'Say'\n";
    let loaded = read(&files(&[("a.toml", text)]), "a.toml", &Overrides::default());
    assert!(loaded.crew.is_some(), "{}", shown(&loaded));
    let notes = loaded.notes.join("\n");
    for words in ["`temperature` is not sent", "takes none, low, medium, high", "ANTHROPIC_API_KEY goes to"] {
        assert!(notes.contains(words), "{words}\nis not in\n{notes}");
    }
    assert_eq!(loaded.notes.len(), 3, "{notes}");
    let Pricing::Priced(price) = loaded.prices["anthropic/claude-sonnet-4-5"] else { panic!("no price") };
    assert_eq!((price.cache_read, price.cache_write), (3_000_000_000, 3_750_000_000));
    assert_eq!(loaded.providers[&Name::new("anthropic").unwrap()].stream, Some(false));
}

#[test]
fn inputs_are_bound_by_type() {
    let plan = good("plan.toml");
    let text = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let bound = plan.bind_inputs(&text(&[("tone", "warm")]), &BTreeMap::new()).unwrap();
    assert_eq!((&bound["tone"], &bound["topic"]), (&json!("warm"), &json!("batteries")));
    let wrong = plan.bind_inputs(&text(&[("tone", "loud"), ("topc", "x")]), &BTreeMap::new()).unwrap_err();
    assert_eq!(wrong.len(), 2);
    assert!(wrong[0].contains("one of dry, warm") && wrong[1].contains("did you mean `topic`"), "{wrong:?}");
    let missing = good("report.toml").bind_inputs(&BTreeMap::new(), &BTreeMap::new()).unwrap_err();
    assert!(missing[1].contains("pass --input topic=…"), "{missing:?}");
}

#[test]
fn files_that_are_no_crews_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let source = DiskSource::new(folder.path());
    std::fs::create_dir(folder.path().join("folder.toml")).unwrap();
    std::fs::write(folder.path().join("latin.toml"), b"schema = 1\n# caf\xe9").unwrap();
    std::fs::write(folder.path().join("empty.toml"), "").unwrap();
    let huge = std::fs::File::create(folder.path().join("huge.toml")).unwrap();
    huge.set_len(100 * 1024 * 1024).unwrap();
    for (path, code, says) in [
        ("none.toml", "E0101", "no such file"),
        ("folder.toml", "E0101", "folder"),
        ("huge.toml", "E0101", "104857600 bytes"),
        ("latin.toml", "E0102", "byte 0xe9 at offset 16, line 2"),
        ("empty.toml", "E0112", "schema"),
    ] {
        let loaded = read(&source, path, &Overrides::default());
        assert!(loaded.crew.is_none());
        let problem = loaded.problems.iter().find(|problem| problem.code == code).unwrap();
        assert!(problem.message.contains(says), "{path}: {}", problem.message);
        assert!(shown(&loaded).contains(path));
    }
}

#[test]
fn ten_thousand_rows_are_checked_in_no_time() {
    let mut rows = String::from("id,kind,title,brief\n");
    for n in 0..10_000 {
        let kind = if n % 2 == 0 { "introduction" } else { "analysis" };
        rows.push_str(&format!("row-{n},{kind},Title {n},What row {n} is about\n"));
    }
    let disk = crews();
    let text = |path: &str| String::from_utf8(disk.read(path).unwrap()).unwrap();
    let paths = [
        "handbook.toml",
        "prompts/section/introduction.md",
        "prompts/section/short.md",
        "prompts/section/analysis.md",
        "prompts/partials/style.md",
    ];
    let mut all: BTreeMap<String, Arc<str>> =
        paths.iter().map(|path| ((*path).to_owned(), text(path).into())).collect();
    all.insert("sections.csv".to_owned(), rows.into());
    let start = std::time::Instant::now();
    let loaded = read(&PinnedSource(all), "handbook.toml", &Overrides::default());
    let took = start.elapsed();
    let crew = loaded.crew.unwrap();
    let Some(Over::Rows(rows)) = crew.tasks[0].repeat.as_ref().map(|r| &r.over) else { panic!("no rows") };
    assert_eq!(rows.len(), 10_000);
    println!("10,000 rows in {took:?}");
    // Unoptimised, on a busy machine; a release build takes a fraction of this.
    assert!(took.as_secs() < 10, "{took:?}");
}

#[test]
fn problems_read_like_rustc() {
    let source =
        files(&[("crew.toml", "schema = 1\n[agents.writer]\nmodel = \"openai/gpt-4.1\"\nbackstroy = \"x\"\n")]);
    let loaded = read(&source, "crew.toml", &Overrides::default());
    let text = shown(&loaded);
    let wanted = "error[E0104]: unknown key `backstroy` in [agents.writer]\n --> crew.toml:4:1\n  |\n4 | backstroy = \"x\"\n  | ^^^^^^^^^";
    assert!(text.contains(wanted), "{text}");
    assert!(text.contains("= help: a key with a similar name exists: `backstory`"), "{text}");
    assert!(text.ends_with("2 errors and 1 warning in 1 file, nothing was sent to a model\n"), "{text}");
}

#[test]
fn reviews_of_repeated_tasks_and_of_prompt_files_load() {
    let head = "schema = 1\n[agents.a]\nmodel = 'ollama/x'\n[agents.b]\nmodel = 'ollama/x'\n";
    let crew = format!(
        "{head}[tasks.facts]\nagent = 'a'\ndescription = 'Facts'\n\
         [tasks.s]\nagent = 'a'\nfor_each = 'r.csv'\nkey = '{{{{ item.id }}}}-{{{{ index }}}}'\n\
         prompt = 'p/{{{{ item.id }}}}'\ndescription = 'On {{{{ item.id }}}}'\ncontext = ['facts']\n\
         expected_output = 'A page on {{{{ item.id }}}}'\nreview = {{ by = 'b' }}\n\
         [tasks.t]\nagent = 'a'\nprompt = 'whole'\ncontext = ['s']\nreview = {{ by = 'b', max_rounds = 2 }}\n"
    );
    let source = files(&[
        ("c.toml", &crew),
        ("r.csv", "id\none\ntwo\n"),
        ("prompts/p/one.md", "First: {{ facts }}"),
        ("prompts/p/two.md", "Second"),
        ("prompts/whole.md", "Join {{ s.text }}"),
    ]);
    let loaded = read(&source, "c.toml", &Overrides::default());
    let crew = loaded.crew.as_ref().unwrap_or_else(|| panic!("{}", shown(&loaded)));
    assert!(crew.loops[0].per_item && !crew.loops[1].per_item);
    let Some(Over::Rows(rows)) = crew.tasks[2].repeat.as_ref().map(|r| &r.over) else { panic!("no rows") };
    assert_eq!(rows[1].key.as_str(), "two-2");
    let mut scope = Scope::default();
    for (name, text) in [("facts", "Ten."), ("s", "Draft."), ("t", "Whole.")] {
        scope.result(name, ResultView { status: "done".into(), value: None, text: text.into() });
    }
    scope.shared("item", rows[0].item.clone());
    scope.json("round", 1.into());
    for (judge, says) in [(2, ["On one", "A page on one", "<s>Draft.</s>"]), (4, ["Join <s>", "`s`", "<t>Whole.</t>"])]
    {
        let Some(TaskPrompt::Fixed(prompt)) = &crew.tasks[judge].prompt else { panic!("no prompt") };
        let text = crew.templates.render(prompt, &scope).unwrap();
        assert!(says.iter().all(|part| text.contains(part)), "{text}");
    }
    let Some(TaskPrompt::Chosen(chosen)) = &crew.tasks[1].prompt else { panic!("one prompt for all") };
    let path = crew.templates.render(chosen, &scope).unwrap();
    let prompt = crew.templates.find(&path).unwrap();
    assert_eq!(crew.templates.render(&prompt, &scope).unwrap(), "First: <facts>Ten.</facts>\n\nOn one");
    assert!(crew.templates.names(&prompt).contains("facts"));
}
