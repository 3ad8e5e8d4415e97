//! HTML as Markdown. Invariant: what a reader of the page would not see is not in it, and the work grows
//! with the length of the page and not with how it is nested.

mod tree;

use std::time::{Duration, Instant};

use htmd::HtmlToMarkdown;
use htmd::options::{BulletListMarker, Options};
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{BufferQueue, Tokenizer};
use reqwest::Url;

use tree::Tree;

/// How long a page may take; what was read until then is what there is.
const TIME: Duration = Duration::from_secs(3);
/// Bytes between two looks at the clock.
const PIECE: usize = 4 << 10;

pub(super) fn markdown(html: &str, base: &Url) -> String {
    let begun = Instant::now();
    let tokenizer = Tokenizer::new(Tree::new(base.clone()), Default::default());
    let queue = BufferQueue::default();
    let mut rest = html;
    while !rest.is_empty() && begun.elapsed() < TIME {
        let (piece, more) = rest.split_at(rest.floor_char_boundary(PIECE));
        queue.push_back(StrTendril::from_slice(piece));
        // Scripts are not run: where the tokenizer would wait for one, it goes on.
        while !queue.is_empty() {
            let _ = tokenizer.feed(&queue);
        }
        rest = more;
    }
    tokenizer.end();
    let (root, title) = tokenizer.sink.finish();
    let options = Options {
        bullet_list_marker: BulletListMarker::Dash,
        ul_bullet_spacing: 1,
        ol_number_spacing: 1,
        ..Options::default()
    };
    let mut body = HtmlToMarkdown::builder().options(options).build().tree_to_markdown(&root);
    if !rest.is_empty() {
        body.push_str("\n\n[cut: the rest of the page takes too long to read]");
    }
    let title = title.replace('<', "&lt;");
    let repeated = body.lines().next().is_some_and(|line| line.trim_start_matches('#').trim() == title);
    if title.is_empty() || repeated { body } else { format!("# {title}\n\n{body}") }
}
