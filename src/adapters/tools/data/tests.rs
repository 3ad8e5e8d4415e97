use super::*;
use std::fs;
use std::sync::Arc;

use crate::adapters::files::open_folder;
use crate::adapters::tools::builtin::BUILTINS;

const ORDERS: &str = "\u{feff}id,who,amount,day\n\
    1,ann,10.10,2026-01-02\n\
    2,bob,0.1,2026-01-01\n\
    3,ann,0.2,2026-01-03\n\
    4,\"Eve, the second\",,2026-01-01\n\
    10,bob,7,2026-02-01\n";

struct Bench(tempfile::TempDir);

impl Bench {
    fn new(files: &[(&str, &str)]) -> Bench {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            fs::write(root.path().join(path), text).unwrap();
        }
        Bench(root)
    }
    /// Through the schema, as the runtime does it.
    fn ask(&self, arguments: Value) -> Result<String, String> {
        let builtin = BUILTINS.iter().find(|builtin| builtin.name == "data.query").unwrap();
        crate::core::schema::Schema::new(builtin.spec().parameters).unwrap().check(&arguments)?;
        let root = Arc::new(open_folder(self.0.path()).unwrap());
        let places = Places::new(root, &[], &[], Vec::new().into()).unwrap();
        query(&places, arguments.as_object().unwrap(), &Stop::default())
    }
}

#[test]
fn rows_are_chosen_sorted_and_cut() {
    let bench = Bench::new(&[("o.csv", ORDERS)]);
    let all = bench.ask(json!({ "path": "o.csv" })).unwrap();
    assert_eq!(all.lines().next().unwrap(), r#"{"id":"1","who":"ann","amount":"10.10","day":"2026-01-02"}"#);
    assert_eq!(all.lines().count(), 5);
    let ids = |arguments: Value| {
        let mut arguments = arguments;
        arguments["path"] = "o.csv".into();
        arguments["select"] = json!(["id"]);
        let rows = bench.ask(arguments).unwrap();
        rows.lines().map(|line| line.replace("{\"id\":\"", "").replace("\"}", "")).collect::<Vec<_>>().join(" ")
    };
    let one = |op: &str, column: &str, value: Value| {
        ids(json!({ "where": [{ "column": column, "op": op, "value": value }] }))
    };
    assert_eq!(one("gt", "amount", json!(0.1)), "1 3 10");
    assert_eq!(one("le", "amount", json!("0.10")), "2");
    assert_eq!(one("eq", "amount", json!(10.1)), "1");
    assert_eq!(one("eq", "amount", json!("10.1")), "[no row matches]", "as text it is another");
    assert_eq!(one("eq", "amount", json!(null)), "4");
    assert_eq!(one("ne", "amount", json!(null)), "1 2 3 10");
    assert_eq!(one("ge", "day", json!("2026-01-03")), "3 10");
    assert_eq!(one("contains", "who", json!("the")), "4");
    assert_eq!(one("in", "id", json!([1, "10", 99])), "1 10");
    assert_eq!(ids(json!({ "sort": [{ "column": "id", "order": "desc" }] })), "10 4 3 2 1", "numbers, not texts");
    assert_eq!(ids(json!({ "sort": [{ "column": "amount" }] })), "2 3 10 1 4", "empty last");
    assert_eq!(ids(json!({ "sort": [{ "column": "amount", "order": "desc" }] })), "1 10 3 2 4");
    assert_eq!(
        ids(json!({ "sort": [{ "column": "day" }, { "column": "id" }], "limit": 2 })),
        "2 4 [2 of 5 rows; raise limit, select fewer columns, or narrow with where]"
    );
}

#[test]
fn figures_are_exact_by_group_and_over_all() {
    let bench = Bench::new(&[("o.csv", ORDERS)]);
    let all = ["count", "sum", "min", "max", "mean"].map(|name| json!({ "fn": name, "column": "amount" }));
    let one = bench.ask(json!({ "path": "o.csv", "aggregate": all })).unwrap();
    let expected = r#"{"count(amount)":4,"sum(amount)":17.4,"min(amount)":0.1,"max(amount)":10.1,"mean(amount)":4.35}"#;
    assert_eq!(one.trim_end(), expected);
    let grouped = json!({ "path": "o.csv", "group_by": ["who"], "aggregate": [{ "fn": "count" }, { "fn": "sum", "column": "amount" }],
        "sort": [{ "column": "sum(amount)", "order": "desc" }], "limit": 2 });
    let grouped = bench.ask(grouped).unwrap();
    assert_eq!(
        grouped,
        "{\"who\":\"ann\",\"count\":2,\"sum(amount)\":10.3}\n{\"who\":\"bob\",\"count\":2,\"sum(amount)\":7.1}\n\
        [2 of 3 rows; raise limit, select fewer columns, or narrow with where]\n"
    );
    let counted = bench.ask(json!({ "path": "o.csv", "group_by": ["day"], "limit": 1 })).unwrap();
    assert!(counted.starts_with("{\"day\":\"2026-01-02\",\"count\":1}\n"), "{counted}");
    let none = json!({ "path": "o.csv", "where": [{ "column": "id", "op": "eq", "value": 0 }], "aggregate": [{ "fn": "count" }] });
    assert_eq!(bench.ask(none).unwrap(), "{\"count\":0}\n");
    let wrong = bench.ask(json!({ "path": "o.csv", "aggregate": [{ "fn": "sum", "column": "who" }] })).unwrap_err();
    assert_eq!(wrong, "row 1: `who` is `ann`, expected a number; leave such rows out with `where`");
}

#[test]
fn json_and_json_lines_with_nested_columns() {
    let bench = Bench::new(&[
        ("a.jsonl", "{\"a\":{\"b\":2},\"n\":[1]}\n\n{\"a\":{\"b\":1}}\n{\"a.b\":3}\n"),
        ("a.json", "{\"data\":{\"items\":[{\"x\":1},{\"x\":true}]},\"list\":[]}"),
        ("bad.jsonl", "{\"x\":1}\n[1]\n"),
        ("broken.jsonl", "{\"x\":1}\n{\"x\":\n"),
    ]);
    let rows = bench.ask(json!({ "path": "a.jsonl", "select": ["a.b"], "sort": [{ "column": "a.b" }] })).unwrap();
    assert_eq!(rows, "{\"a.b\":1}\n{\"a.b\":2}\n{\"a.b\":3}\n");
    let list =
        json!({ "path": "a.json", "list": "data.items", "where": [{ "column": "x", "op": "eq", "value": true }] });
    assert_eq!(bench.ask(list).unwrap(), "{\"x\":true}\n");
    for (arguments, expected) in [
        (json!({ "path": "a.json" }), "`a.json`: expected a list of objects, found an object; `list` may be: list"),
        (json!({ "path": "a.json", "list": "data.x" }), "`data.x` in `a.json` does not exist; `list` may be: list"),
        (json!({ "path": "bad.jsonl" }), "`bad.jsonl` line 2: expected an object, found a list"),
        (json!({ "path": "broken.jsonl" }), "`broken.jsonl` line 2 is not JSON"),
        (json!({ "path": "a.jsonl", "list": "x" }), "`list` is of a json file only"),
    ] {
        let why = bench.ask(arguments).unwrap_err();
        assert!(why.starts_with(expected), "{why}");
    }
}

#[test]
fn what_does_not_fit_says_what_does() {
    let bench = Bench::new(&[
        ("o.csv", ORDERS),
        ("ragged.csv", "a,b\n1,2\n1,2,3\n"),
        ("twice.csv", "a,a\n1,2\n"),
        ("empty.csv", ""),
        ("notes.txt", "x"),
    ]);
    let wheres =
        |op: &str, value: Value| json!({ "path": "o.csv", "where": [{ "column": "id", "op": op, "value": value }] });
    for (arguments, expected) in [
        (
            json!({ "path": "o.csv", "select": ["name"] }),
            "no row has the column `name`; there are: amount, day, id, who",
        ),
        (json!({ "path": "ragged.csv" }), "`ragged.csv` line 3: expected 2 cells as in the header, found 3"),
        (json!({ "path": "twice.csv" }), "`twice.csv` has two columns `a`"),
        (json!({ "path": "empty.csv" }), "`empty.csv` is empty; its first line must name the columns"),
        (json!({ "path": "notes.txt" }), "`notes.txt` does not end in .csv, .json or .jsonl"),
        (json!({ "path": "none.csv" }), "`none.csv` does not exist; files.list shows what does"),
        (json!({ "path": "o.csv", "sql": "drop table" }), "the value: Additional properties are not allowed"),
        (json!({ "path": "o.csv", "limit": 100000 }), "/limit: "),
        (json!({ "path": "o.csv", "aggregate": [{ "fn": "sum" }] }), "aggregate: `sum` needs a `column`"),
        (json!({ "path": "o.csv", "aggregate": [{ "fn": "median" }] }), "/aggregate/0/fn: "),
        (json!({ "path": "o.csv", "select": ["id"], "group_by": ["who"] }), "`select` has no meaning with"),
        (
            json!({ "path": "o.csv", "group_by": ["who"], "sort": [{ "column": "id" }] }),
            "sort: the answer has no column `id`; it has who, count",
        ),
        (wheres("lt", json!(null)), "where: `lt` on `id` takes a number or a string"),
        (wheres("in", json!("1")), "where: `in` on `id` takes a list of at most 1000 values"),
        (wheres("eq", json!([1])), "where: `eq` on `id` takes a string, a number, true, false or null"),
    ] {
        let why = bench.ask(arguments.clone()).unwrap_err();
        assert!(why.starts_with(expected), "{arguments}: {why}");
    }
}

#[test]
fn answers_and_memory_are_bounded_whatever_the_file_holds() {
    let many: String = (0..30_000).map(|i| format!("{{\"id\":{i},\"text\":\"{}\"}}\n", "x".repeat(900))).collect();
    let open = format!("a,b\n1,2\n\"{}", "never closed, ".repeat(200_000));
    let long = format!("{{\"x\":\"{}\"}}\n", "y".repeat(2 << 20));
    let deep = format!("{{\"x\":{}{}}}\n", "[".repeat(100_000), "]".repeat(100_000));
    let bench = Bench::new(&[("many.jsonl", &many), ("open.csv", &open), ("long.jsonl", &long), ("deep.jsonl", &deep)]);
    let last = json!({ "path": "many.jsonl", "sort": [{ "column": "id", "order": "desc" }], "limit": 1000 });
    let answer = bench.ask(last).unwrap();
    assert!(answer.starts_with("{\"id\":29999,") && answer.len() <= ANSWER_MOST + 200);
    assert!(answer.ends_with("of 30000 rows; raise limit, select fewer columns, or narrow with where]\n"));
    let groups = bench.ask(json!({ "path": "many.jsonl", "group_by": ["id"] })).unwrap_err();
    assert_eq!(groups, "more than 10000 groups; group by a column with fewer values, or narrow with `where`");
    let lengthy = json!({ "path": "many.jsonl", "aggregate": [{ "fn": "min", "column": "text" }] });
    assert!(bench.ask(lengthy).unwrap_err().contains("more than 256 bytes"));
    assert!(bench.ask(json!({ "path": "open.csv" })).unwrap_err().contains("is a quote not closed?"));
    assert!(bench.ask(json!({ "path": "long.jsonl" })).unwrap_err().contains("line 1 has more than 1048576 bytes"));
    assert!(bench.ask(json!({ "path": "deep.jsonl" })).unwrap_err().contains("recursion limit"));
}
