use super::*;
use crate::adapters::models::ProviderKind;
use crate::adapters::models::secrets::KeySource;

struct Machine {
    folder: tempfile::TempDir,
    env: Env,
    flags: Flags,
}

impl Machine {
    fn new(user: &str, project: &str, env: &[(&str, &str)]) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("home/bosun")).unwrap();
        std::fs::create_dir_all(root.join("project")).unwrap();
        std::fs::write(root.join("home/bosun/config.toml"), user).unwrap();
        std::fs::write(root.join("project/bosun.toml"), project).unwrap();
        let mut map: Env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        map.insert("XDG_CONFIG_HOME".into(), root.join("home").display().to_string());
        Machine { folder, env: map, flags: Flags::new() }
    }
    fn load(&self) -> Result<Settings, BadSettings> {
        load(&self.folder.path().join("project"), &self.env, &self.flags)
    }
    fn problems(&self) -> String {
        let text = self.load().unwrap_err().to_string();
        text.replace(&self.folder.path().display().to_string(), "")
    }
}

fn provider<'a>(settings: &'a Settings, name: &str) -> &'a ProviderSpec {
    &settings.providers[&Name::new(name).unwrap()]
}

#[test]
fn with_nothing_stated_the_built_in_layer_is_all() {
    let machine = Machine::new("", "", &[]);
    let settings = machine.load().unwrap();
    assert_eq!(settings.state_dir, machine.folder.path().join("project/.bosun"));
    assert_eq!((settings.limits.clone(), settings.model.clone(), settings.offline), (Limits::default(), None, false));
    let openai = provider(&settings, "openai");
    assert_eq!(openai.kind, ProviderKind::OpenAi);
    assert_eq!(openai.base_url.as_deref(), Some("https://api.openai.com/v1"));
    assert_eq!(openai.key, KeySource::Env("OPENAI_API_KEY".into()));
    assert_eq!((openai.timeout_ms, openai.max_concurrency, openai.max_wait_ms), (120_000, 8, 600_000));
    for name in ["ollama", "offline", "scripted"] {
        assert_eq!(provider(&settings, name).key, KeySource::None, "{name}");
    }
    let responses = provider(&settings, "openai_responses");
    assert_eq!(
        (responses.kind, &responses.base_url, &responses.key),
        (ProviderKind::OpenAiResponses, &openai.base_url, &openai.key)
    );
    let gemini = provider(&settings, "gemini");
    assert_eq!((gemini.kind, &gemini.key), (ProviderKind::Gemini, &KeySource::Env("GEMINI_API_KEY".into())));
    assert_eq!(settings.origins["providers.openai.kind"], "built-in");
}

#[test]
fn the_last_layer_counts_and_says_where_it_is_from() {
    let mut machine = Machine::new(
        "model = 'a/user'\nlog = 'info'\n[providers.acme]\nkind = 'openai-compatible'\nbase_url = 'http://u/v1'\ntimeout = '90s'\n",
        "model = 'a/project'\nstate_dir = 'state'\n[providers.acme]\nbase_url = 'http://p/v1'\napi_key_file = 'key'\n",
        &[
            ("BOSUN_LOG", "debug"),
            ("BOSUN_OFFLINE", "true"),
            ("OPENAI_BASE_URL", "http://localhost:1/v1"),
            ("ANTHROPIC_BASE_URL", "http://localhost:2"),
            ("BOSUN_MODEL", ""),
        ],
    );
    machine.flags.insert("log_format".into(), "json".into());
    let settings = machine.load().unwrap();
    assert_eq!(settings.model.as_deref(), Some("a/project"), "an empty variable states nothing");
    assert_eq!(
        (settings.log.as_deref(), settings.log_format, settings.offline),
        (Some("debug"), LogFormat::Json, true)
    );
    let root = machine.folder.path().join("project");
    assert_eq!(settings.state_dir, root.join("state"));
    let acme = provider(&settings, "acme");
    assert_eq!((acme.base_url.as_deref(), acme.timeout_ms), (Some("http://p/v1"), 90_000));
    assert_eq!(acme.key, KeySource::File(root.join("key")));
    assert_eq!(provider(&settings, "openai").base_url.as_deref(), Some("http://localhost:1/v1"));
    let from = |key: &str| settings.origins[key].replace(&machine.folder.path().display().to_string(), "");
    assert_eq!(from("model"), "/project/bosun.toml");
    assert_eq!(from("providers.acme.timeout"), "/home/bosun/config.toml");
    assert_eq!((from("log"), from("log_format")), ("BOSUN_LOG".to_owned(), "--log-format".to_owned()));
    assert_eq!(from("providers.openai.base_url"), "OPENAI_BASE_URL");
    let claude = provider(&settings, "anthropic");
    assert_eq!((claude.base_url.as_deref(), claude.stream), (Some("http://localhost:2"), true));
    assert_eq!(claude.key, KeySource::Env("ANTHROPIC_API_KEY".into()));
    assert!(!acme.stream, "a compatible server is asked for whole answers");
}

#[test]
fn of_a_limit_the_smallest_layer_counts() {
    let mut machine = Machine::new(
        "max_usd = 0.30\nmax_calls = 5\nmax_tokens = 1_000\n",
        "max_usd = '1.00'\nmax_calls = 9\n",
        &[("BOSUN_MAX_USD", "0.25"), ("BOSUN_MAX_CALLS", "7")],
    );
    machine.flags.insert("max_usd".into(), "2".into());
    let Settings { limits, origins, .. } = machine.load().unwrap();
    assert_eq!(origins["max_usd"], "BOSUN_MAX_USD", "the layer whose limit is in force, not the last");
    let usd = limits.max_usd.unwrap();
    assert_eq!((usd.value, usd.origin.as_str()), (NanoUsd(250_000_000), "BOSUN_MAX_USD"));
    let calls = limits.max_calls.unwrap();
    assert!(calls.value == 5 && calls.origin.ends_with("config.toml"), "{calls:?}");
    assert_eq!((limits.max_tokens.unwrap().value, limits.max_turns), (1000, None));
}

#[test]
fn everything_wrong_is_said_at_once_with_file_and_nearest_key() {
    let machine = Machine::new(
        "max_us = 1\nmax_calls = -3\n",
        "log_format = 'xml'\n[providers.acme]\nkind = 'openai-compatible'\nbase_ur = 'x'\ntimeout = 'soon'\n\
         [providers.claude]\nkind = 'claude'\n[providers.none]\nrpm = 3\n[providers.Bad]\nkind = 'offline'\n",
        &[("BOSUN_MAX_TURNS", "many")],
    );
    let text = machine.problems();
    for words in [
        "/home/bosun/config.toml: `max_us` is not a setting; did you mean `max_usd`?",
        "/home/bosun/config.toml: `max_calls` is `-3`",
        "/project/bosun.toml: `log_format` is `xml`",
        "`base_ur` is not a key of [providers.acme]; did you mean `base_url`?",
        "`providers.acme.timeout` is wrong: `soon` is not a duration",
        "unknown provider kind `claude`",
        "[providers.none] has no kind",
        "[providers.Bad]",
        "BOSUN_MAX_TURNS: `max_turns` is `many`",
    ] {
        assert!(text.contains(words), "{words}\nis not in\n{text}");
    }
    assert_eq!(text.lines().count(), 9, "{text}");
}

#[test]
fn a_file_that_is_not_toml_names_file_and_line() {
    let text = Machine::new("", "model = 'a'\nmax_usd = = 1\n", &[]).problems();
    assert!(text.contains("/project/bosun.toml") && text.contains("line 2"), "{text}");
}

#[test]
fn the_script_of_the_stand_in_and_misspelt_variables() {
    let variables = [("BOSUN_MODLE", "a/b"), ("BOSUN_MAX_DOLLARS", "1"), ("BOSUN_SOMETHING", "1")];
    let machine = Machine::new("", "script = 's.toml'\n", &variables);
    let settings = machine.load().unwrap();
    assert_eq!(provider(&settings, "scripted").script, Some(machine.folder.path().join("project/s.toml")));
    assert_eq!(settings.notes.len(), 2, "{:?}", settings.notes);
    assert!(settings.notes[0].contains("BOSUN_MAX_DOLLARS") && settings.notes[0].contains("limits nothing"));
    assert_eq!(settings.notes[1], "BOSUN_MODLE is not a setting of bosun; did you mean BOSUN_MODEL?");
    let machine = Machine::new("", "script = 's.toml'\n", &[("BOSUN_SCRIPT", "/x/y.toml")]);
    assert_eq!(provider(&machine.load().unwrap(), "scripted").script, Some("/x/y.toml".into()));
}

#[test]
fn a_limit_that_is_misspelt_is_refused_and_not_left_out() {
    for (wrong, right) in [
        ("BOSUN_MAX_USDD", "BOSUN_MAX_USD"),
        ("BOSUN_MAX_UDS", "BOSUN_MAX_USD"),
        ("BOSUN_MAXTOKENS", "BOSUN_MAX_TOKENS"),
        ("BOSUN_MAX_CALL", "BOSUN_MAX_CALLS"),
    ] {
        let text = Machine::new("", "", &[(wrong, "1")]).problems();
        assert!(text.contains(wrong) && text.contains(&format!("did you mean {right}?")), "{wrong}: {text}");
    }
}
