//! Rates against a provider that enforces them, in accelerated time: a "minute" is `WINDOW`. Invariant:
//! the server counts and refuses; how much of its limit was used is its own count.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use boatswain::core::event::{Event, ParkCause, RunEvent};

use super::stand_in::Behaviour;
use super::support::{Folder, Provider, until, wait};

/// A minute of the limits, in milliseconds.
const WINDOW: u64 = 6_000;
const REQUESTS: f64 = 60.0;
const TOKENS: f64 = 10_000.0;
/// How long an answer takes.
const LATENCY: Duration = Duration::from_millis(60);

/// A token bucket for requests and tokens.
struct Bucket {
    limit: [f64; 2],
    level: [f64; 2],
    at: Instant,
    /// Cut the limits to a tenth after so many.
    cut_after: usize,
    accepted: Vec<Instant>,
    refused: usize,
}

impl Bucket {
    fn new() -> Bucket {
        let limit = [REQUESTS, TOKENS];
        Bucket { limit, level: limit, at: Instant::now(), cut_after: usize::MAX, accepted: Vec::new(), refused: 0 }
    }

    fn request(&mut self, body: &str) -> Behaviour {
        let passed = self.at.elapsed().as_secs_f64() * 1000.0 / WINDOW as f64;
        self.at = Instant::now();
        let need = [1.0, (body.len() / 4) as f64 + 7.0];
        for n in 0..2 {
            self.level[n] = (self.level[n] + passed * self.limit[n]).min(self.limit[n]);
        }
        if (0..2).any(|n| self.level[n] < need[n]) {
            self.refused += 1;
            let words = r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#;
            return Behaviour::Status(429, Vec::new(), words.to_owned());
        }
        (0..2).for_each(|n| self.level[n] -= need[n]);
        self.accepted.push(Instant::now());
        if self.accepted.len() == self.cut_after {
            self.limit = self.limit.map(|limit| limit / 10.0);
        }
        Behaviour::Answer("Fine.".into())
    }

    /// Requests per window, from the first to the last. A bucket that begins full allows one limit more.
    fn rate(&self) -> f64 {
        let time = *self.accepted.last().unwrap() - self.accepted[0];
        (self.accepted.len() - 1) as f64 / (time.as_secs_f64() * 1000.0 / WINDOW as f64)
    }
}

fn enforcing(provider: &Provider, bucket: Bucket) -> Arc<Mutex<Bucket>> {
    let bucket = Arc::new(Mutex::new(bucket));
    let shared = bucket.clone();
    provider.server.respond(move |body, _| (LATENCY, shared.lock().unwrap().request(body)));
    bucket
}

/// `tasks` tasks, all at once as far as the limits let them.
fn crew(provider: &Provider, tasks: usize, more: &str) -> Folder {
    let tables = provider.tables(&format!("max_concurrency = 16\n{more}"));
    let mut folder = Folder::new(&format!(
        "schema = 1\n[crew]\nmax_parallel = {tasks}\n[budget]\nmax_usd = 100\n{tables}\
         [inputs]\nname = {{ default = \"x\" }}\n[agents.a]\nmodel = \"m\"\n\
         [tasks.t]\nagent = \"a\"\nfor_each = \"rows.csv\"\nkey = \"id\"\ndescription = \"Say {{{{ item.id }}}} of {{{{ name }}}}\"\n"
    ));
    let rows: String = (1..=tasks).map(|n| format!("r{n}\n")).collect();
    folder.file("rows.csv", &format!("id\n{rows}"));
    folder.env("BOSUN_RATE_WINDOW_MS", &WINDOW.to_string());
    folder
}

const LIMITS: &str = "rpm = 60\ntpm = 10_000";

#[test]
fn two_hundred_tasks_use_nine_tenths_of_the_limit_and_are_not_refused() {
    let provider = Provider::start();
    let bucket = enforcing(&provider, Bucket::new());
    let folder = crew(&provider, 200, LIMITS);
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    folder.verify();
    let bucket = bucket.lock().unwrap();
    println!("{:.1} requests per window of {REQUESTS}, {} refused", bucket.rate(), bucket.refused);
    assert_eq!((bucket.accepted.len(), bucket.refused), (200, 0));
    assert!(bucket.rate() >= 0.9 * REQUESTS, "{:.1} requests per window", bucket.rate());
}

#[test]
fn four_processes_on_one_key_keep_its_limit_together() {
    let provider = Provider::start();
    let bucket = enforcing(&provider, Bucket::new());
    let folder = crew(&provider, 60, LIMITS);
    let start = |n| folder.start(&["run", "crew.toml", "-q", "--input", &format!("name=p{n}")]);
    let processes: Vec<_> = (0..4).map(start).collect();
    processes.into_iter().for_each(|process| drop(wait(process).expect(0)));
    folder.verify();
    let bucket = bucket.lock().unwrap();
    // The bucket's own count over what the limit allows in three windows after the first call: a rate, as a count
    // between two moments is off by one at either of them.
    let three = (bucket.accepted[180] - bucket.accepted[0]).as_secs_f64() * 1000.0 / WINDOW as f64;
    let rate = 180.0 / three;
    println!("{rate:.2} per window of 60 over {three:.3} windows, {} refused", bucket.refused);
    assert_eq!((bucket.accepted.len(), bucket.refused), (240, 0));
    assert!((58.8..=61.2).contains(&rate), "{rate:.2} per window, of 60");
}

#[test]
fn a_limit_cut_to_a_tenth_in_mid_run_costs_under_twenty_refusals() {
    let provider = Provider::start();
    let bucket = enforcing(&provider, Bucket { cut_after: 100, ..Bucket::new() });
    let folder = crew(&provider, 115, LIMITS);
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    folder.verify();
    let bucket = bucket.lock().unwrap();
    println!("{} refused", bucket.refused);
    assert_eq!(bucket.accepted.len(), 115);
    assert!((1..20).contains(&bucket.refused), "{} refused", bucket.refused);
}

#[test]
fn no_call_is_made_inside_retry_after() {
    let provider = Provider::start();
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let shared = arrivals.clone();
    provider.server.respond(move |_, number| {
        shared.lock().unwrap().push(Instant::now());
        let headers = vec![("retry-after", "3".to_owned())];
        let refuse = number == 20;
        (
            if refuse { Duration::ZERO } else { LATENCY },
            match refuse {
                true => Behaviour::Status(429, headers, "{}".into()),
                false => Behaviour::Answer("Fine.".into()),
            },
        )
    });
    let folder = crew(&provider, 60, "");
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    folder.verify();
    let arrivals = arrivals.lock().unwrap();
    let refused = arrivals[19];
    let inside = arrivals.iter().filter(|at| **at > refused + Duration::from_millis(200));
    let inside = inside.filter(|at| **at < refused + Duration::from_secs(3)).count();
    assert_eq!((arrivals.len(), inside), (61, 0));
    // Then one by one: not everybody at once.
    let after: Vec<_> = arrivals.iter().filter(|at| **at >= refused + Duration::from_secs(3)).collect();
    assert!(after.len() > 20 && *after[1] - *after[0] >= LATENCY, "{:?}", *after[1] - *after[0]);
}

#[test]
fn a_wait_longer_than_max_wait_parks_with_exit_15_and_resume_goes_on() {
    let provider = Provider::start();
    provider.push(Behaviour::Status(429, vec![("retry-after", "6".into())], "{}".into()));
    let folder = crew(&provider, 3, "max_wait = \"2s\"");
    let begun = Instant::now();
    let parked = folder.bosun(&["run", "crew.toml"]).expect(15);
    assert!(parked.err.contains("p lets nothing through until 20"), "{}", parked.err);
    assert!(parked.last_line().contains("bosun resume"), "{}", parked.err);
    folder.verify();
    let cause = folder.events().into_iter().find_map(|event| match event {
        Event::Run(RunEvent::Parked { causes }) => Some(causes),
        _ => None,
    });
    assert!(matches!(&cause.unwrap()[..], [ParkCause::Rate(limited)] if limited.provider.as_str() == "p"));
    assert!(folder.bosun(&["runs"]).out.contains("waiting: rate"));
    let asked = provider.requests();
    // Another process knows it too: it parks again and asks nobody.
    folder.bosun(&["resume", "latest", "-q"]).expect(15);
    assert_eq!(provider.requests(), asked);
    std::thread::sleep(Duration::from_millis(6_700).saturating_sub(begun.elapsed()));
    folder.bosun(&["resume", "latest", "-q"]).expect(0);
    folder.verify();
}

/// What the processes of the host know together, as it lies in the state folder.
fn on_file(folder: &Folder) -> String {
    let files = std::fs::read_dir(folder.state().join("rates")).into_iter().flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok());
    texts.collect()
}

/// No limit is stated anywhere: that the provider asked to wait is known to all all the same.
#[test]
fn a_gate_that_one_process_finds_closed_is_closed_for_the_others() {
    let provider = Provider::start();
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let shared = arrivals.clone();
    provider.server.respond(move |_, number| {
        shared.lock().unwrap().push(Instant::now());
        let refuse = || Behaviour::Status(429, vec![("retry-after", "3".to_owned())], "{}".into());
        (Duration::ZERO, if number == 1 { refuse() } else { Behaviour::Answer("Fine.".into()) })
    });
    let folder = crew(&provider, 3, "");
    // One at a time: the others of this process wait for the first.
    let text = folder.read("crew.toml").replace("max_parallel = 3", "max_parallel = 1");
    folder.file("crew.toml", &text);
    let first = folder.start(&["run", "crew.toml", "-q", "--input", "name=first"]);
    until("the refusal is on file", || {
        let known = on_file(&folder);
        known.contains("\"closed_until\":") && !known.contains("\"closed_until\":0,")
    });
    let second = folder.start(&["run", "crew.toml", "-q", "--input", "name=second"]);
    [first, second].into_iter().for_each(|process| drop(wait(process).expect(0)));
    folder.verify();
    let arrivals = arrivals.lock().unwrap();
    let inside = arrivals[1..].iter().filter(|at| **at < arrivals[0] + Duration::from_secs(3)).count();
    assert_eq!((arrivals.len(), inside), (7, 0));
}

/// The second process has seen no failure, and does not call the model to see one.
#[test]
fn a_model_that_one_process_leaves_alone_the_others_leave_alone() {
    let provider = Provider::start();
    provider.server.respond(|body, _| {
        let ill = body.contains("\"m\"");
        let overloaded = || Behaviour::Status(503, vec![("retry-after-ms", "5".to_owned())], "{}".into());
        (Duration::ZERO, if ill { overloaded() } else { Behaviour::Answer("Fine.".into()) })
    });
    let folder = crew(&provider, 6, "");
    let spare = "[models.spare]\nid = \"p/spare\"\nprice = { input = 1, output = 1 }\nmax_output = 50\n[inputs]";
    let text = folder.read("crew.toml").replace("[models.m]\n", "[models.m]\nfallback = [\"spare\"]\n");
    folder.file("crew.toml", &text.replace("[inputs]", spare));
    let asked = |model: &str| provider.seen().iter().filter(|seen| seen.body.contains(model)).count();
    folder.bosun(&["run", "crew.toml", "-q", "--input", "name=first"]).expect(0);
    let (ill, fine) = (asked("\"m\""), asked("\"spare\""));
    assert!(ill >= 5 && fine == 6, "{ill} {fine}");
    folder.bosun(&["run", "crew.toml", "-q", "--input", "name=second"]).expect(0);
    folder.verify();
    assert_eq!((asked("\"m\""), asked("\"spare\"")), (ill, 12));
}
