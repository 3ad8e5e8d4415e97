//! HTML as Markdown. Invariant: what a reader of the page would not see is not in it, and no page makes
//! the walk deeper than [`DEEPEST`].

use std::rc::Rc;

use htmd::HtmlToMarkdown;
use htmd::options::{BulletListMarker, Options};
use markup5ever_rcdom::{Handle, Node, NodeData};
use reqwest::Url;

/// Levels of a page; what is below is left out. The walk that follows is recursive.
const DEEPEST: usize = 200;

/// Nothing to read, or nothing that is read.
const SKIPPED: [&str; 22] = [
    "script", "style", "noscript", "template", "svg", "math", "canvas", "iframe", "object", "embed", "audio", "video",
    "nav", "button", "select", "textarea", "input", "dialog", "link", "meta", "img", "picture",
];

pub(super) fn markdown(html: &str, base: &Url) -> String {
    let options = Options {
        bullet_list_marker: BulletListMarker::Dash,
        ul_bullet_spacing: 1,
        ol_number_spacing: 1,
        ..Options::default()
    };
    let converter = HtmlToMarkdown::builder().options(options).build();
    let Ok(tree) = converter.html_to_tree(html) else { return String::new() };
    let found = prune(&tree, base);
    // A page that says what its matter is, is read there.
    let root = if let [main] = found.mains.as_slice() { main } else { &tree };
    let body = converter.tree_to_markdown(root);
    let title = found.title.split_whitespace().collect::<Vec<_>>().join(" ");
    let repeated = body.lines().next().is_some_and(|line| line.trim_start_matches('#').trim() == title);
    if title.is_empty() || repeated { body } else { format!("# {title}\n\n{body}") }
}

#[derive(Default)]
struct Found {
    title: String,
    mains: Vec<Handle>,
}

/// Takes out what is not read, makes links absolute, and finds the title. Not recursive.
fn prune(tree: &Rc<Node>, base: &Url) -> Found {
    let mut found = Found::default();
    let mut open = vec![(tree.clone(), 0)];
    while let Some((node, depth)) = open.pop() {
        node.children.borrow_mut().retain(|child| depth < DEEPEST && look(child, base, &mut found));
        open.extend(node.children.borrow().iter().map(|child| (child.clone(), depth + 1)));
    }
    found
}

/// Is it read?
fn look(node: &Handle, base: &Url, found: &mut Found) -> bool {
    let (name, attributes) = match &node.data {
        NodeData::Element { name, attrs, .. } => (&*name.local, attrs),
        NodeData::Document | NodeData::Text { .. } | NodeData::Doctype { .. } => return true,
        NodeData::Comment { .. } | NodeData::ProcessingInstruction { .. } => return false,
    };
    if name == "title" && found.title.is_empty() {
        found.title = words(node);
    }
    if name == "title" || SKIPPED.contains(&name) {
        return false;
    }
    let mut attributes = attributes.borrow_mut();
    let hidden = attributes.iter().any(|one| match &*one.name.local {
        "hidden" => true,
        "aria-hidden" => &*one.value == "true",
        "style" => {
            let style: String = one.value.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
            ["display:none", "visibility:hidden", "font-size:0;", "opacity:0;"].iter().any(|how| style.contains(how))
        }
        _ => false,
    });
    if hidden {
        return false;
    }
    if name == "main" {
        found.mains.push(node.clone());
    }
    if name == "a" {
        attributes.retain_mut(|one| match &*one.name.local {
            "href" => match base.join(&one.value) {
                Ok(to) if matches!(to.scheme(), "http" | "https" | "mailto") => {
                    one.value = to.as_str().into();
                    true
                }
                Ok(_) | Err(_) => false,
            },
            _ => false,
        });
    }
    true
}

/// The text directly in a node.
fn words(node: &Handle) -> String {
    let text = |child: &Handle| match &child.data {
        NodeData::Text { contents } => contents.borrow().to_string(),
        _ => String::new(),
    };
    node.children.borrow().iter().map(text).collect()
}
