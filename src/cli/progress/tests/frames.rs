//! The live region.

use super::*;

#[test]
fn an_answer_that_comes_as_it_is_written_says_how_far_it_is() {
    let told = at_work();
    let call = crate::core::ids::CallId::parse("draft#1.1").unwrap();
    let writing = [Writing { run: crate::core::ids::RunId::from_random(1), call, characters: 1312 }];
    let under_way = UnderWay { writing: &writing, working: &[] };
    let rows = region::rows(&told.tally, &under_way, &[], told.at + 13_000, wide(80));
    assert!(rows[0].starts_with("* draft#1  writer  1,312 characters from openai/gpt-4.1-mini"), "{rows:?}");
    assert!(rows[1].contains("working"), "{rows:?}");
}

#[test]
fn a_tool_that_says_how_far_it_is_is_shown_so() {
    let told = at_work();
    let (run, call) =
        (crate::core::ids::RunId::from_random(1), crate::core::ids::CallId::parse("fact_check.1").unwrap());
    let row = |done: f64, of: Option<f64>, says: &str, columns: usize| {
        let progress = crate::ports::tool::Progress { done, of, says: says.to_owned() };
        let (run, call, tool) = (run.clone(), call.clone(), "s.steps".to_owned());
        let working = [Working { run, call, index: 0, tool, progress }];
        let under_way = UnderWay { writing: &[], working: &working };
        region::rows(&told.tally, &under_way, &[], told.at + 13_000, wide(columns)).swap_remove(1)
    };
    let whole = row(12.0, Some(50.0), "reading\u{1b}[2K page 12\nof many", 80);
    assert!(whole.starts_with("* fact_check  checker~2  tool s.steps 12 of 50: reading page 12"), "{whole}");
    assert!(!whole.contains('\u{1b}') && !whole.contains('\n'), "{whole:?}");
    assert!(row(0.5, None, "", 80).contains("tool s.steps 0.5 "));
    assert!(screen::width(&row(12.0, Some(50.0), &"long ".repeat(40), 40)) < 40);
}

#[test]
fn the_live_region_has_a_row_per_agent_and_one_for_money() {
    let told = at_work();
    insta::assert_snapshot!(told.rows(80), @r#"
    * draft#1  writer  calling openai/gpt-4.1-mini                              16s
    * fact_check  checker~2  working                                            14s
    spent $0.0040 + held $0.0840 of $0.25 · 9,120 tok · 41s
    "#);
    insta::assert_snapshot!(told.rows(40), @r#"
    * draft#1  writer  calling openai/… 16s
    * fact_check  checker~2  working    14s
    spent $0.0040 + held $0.0840 of $0.25
    "#);
    insta::assert_snapshot!(told.rows(20), @r#"
    * draft#1  wri… 16s
    * fact_check  … 14s
    spent $0.0040
    "#);
}

#[test]
fn no_row_is_wider_than_the_terminal_and_there_are_at_most_twelve() {
    let mut told = Told::new(true);
    for i in 0..40 {
        told.start(&format!("section[%E6%97%A5%E6%9C%AC{i}]"), &format!("writer~{}", i + 1));
    }
    for columns in [1, 2, 5, 10, 20, 40, 79, 80, 200] {
        let rows = region::rows(&told.tally, &UnderWay::default(), &[], told.at, wide(columns));
        assert!(rows.len() == region::ROWS, "{} rows", rows.len());
        assert!(rows.iter().all(|row| screen::width(row) < columns.max(2)), "{rows:?} at {columns}");
    }
    assert!(told.rows(80).contains("… and 30 steps more"), "{}", told.rows(80));
}

#[test]
fn on_a_low_terminal_the_region_leaves_room_and_ends_with_the_money() {
    let mut told = Told::new(false);
    for i in 0..14 {
        told.start(&format!("section[a{i}]"), &format!("writer~{}", i + 1));
    }
    let waits = ["waits a".to_owned(), "waits b".to_owned()];
    for rows in 0..30 {
        let size = Size { columns: 80, rows };
        let shown = region::rows(&told.tally, &UnderWay::default(), &waits, told.at, size);
        assert_eq!(shown.len(), rows.saturating_sub(2).min(region::ROWS), "{shown:?} at {rows}");
        assert!(shown.last().is_none_or(|last| last.starts_with("spent $")), "{shown:?} at {rows}");
        let more = shown.iter().find_map(|row| row.strip_prefix("… and ")?.strip_suffix(" steps more"));
        let steps = shown.iter().filter(|row| row.starts_with('*')).count();
        assert!(rows < 4 || more == Some((14 - steps).to_string().as_str()), "{shown:?} at {rows}");
    }
}

#[test]
fn the_row_with_the_money_leaves_out_whole_parts_and_never_what_is_spent() {
    let mut told = at_work();
    told.event(Event::Run(RunEvent::PauseAsked { cause: PauseCause::Interrupted, by: "ana".into() }));
    let whole = told.rows(200).lines().last().unwrap().to_owned();
    for columns in 15..120 {
        let rows = told.rows(columns);
        let row = rows.lines().last().unwrap();
        assert!(row.contains("spent $0.0040") && screen::width(row) < columns, "{row} at {columns}");
        let parts = row.split([':', '·', '+']).flat_map(|part| part.split(" of "));
        assert!(parts.map(str::trim).all(|part| whole.contains(part)), "cut: {row} at {columns}");
    }
    assert_eq!(told.rows(40).lines().last(), Some("pausing · spent $0.0040 + held $0.0840"));
}

#[test]
fn a_frame_takes_away_what_was_drawn_even_after_the_terminal_became_narrower() {
    let mut region = Region::default();
    let rows = vec!["x".repeat(70), "y".repeat(10)];
    let away = |rows: usize| format!("{}\r", "\x1b[1A\x1b[2K".repeat(rows));
    assert_eq!(region.frame(&[], &rows, wide(80)), format!("{}\n{}\n", rows[0], rows[1]));
    let again = region.frame(&["done a".into()], &rows, wide(80));
    assert_eq!(again, format!("{}done a\n{}\n{}\n", away(2), rows[0], rows[1]));
    // 70 columns take two lines of 40.
    assert_eq!(region.frame(&[], &[], wide(40)), away(3));
    assert!(!region.is_drawn());
    assert_eq!(region.frame(&[], &[], wide(40)), "");
    // 70 columns take seven lines of 10; only four are still on a screen of five, the cursor on its last.
    region.frame(&[], &rows, wide(80));
    assert_eq!(region.frame(&[], &[], Size { columns: 10, rows: 5 }), away(4));
}
