//! The tree of a page, made of its tokens. Invariant: each token costs at most one look at every level,
//! and there are at most [`DEEPEST`] levels; of what is not seen nothing is kept.

use std::cell::RefCell;
use std::rc::Rc;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{Tag, TagKind, Token, TokenSink, TokenSinkResult};
use html5ever::{Attribute, LocalName, QualName, ns};
use markup5ever_rcdom::{Handle, Node, NodeData};
use reqwest::Url;

/// What is below belongs to the level above: no text is lost.
const DEEPEST: usize = 100;

/// Nothing to read, or nothing that is read.
const SKIPPED: [&str; 22] = [
    "script", "style", "noscript", "template", "svg", "math", "canvas", "iframe", "object", "embed", "audio", "video",
    "nav", "button", "select", "textarea", "noframes", "dialog", "title", "picture", "noembed", "datalist",
];
/// Without an end, and without anything to read but a break.
const VOID: [&str; 16] = [
    "area", "base", "br", "col", "frame", "hr", "img", "input", "keygen", "link", "meta", "param", "source", "track",
    "wbr", "bgsound",
];
const BLOCKS: [&str; 26] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "details",
    "div",
    "dl",
    "fieldset",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "main",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "ul",
];
/// What a tag ends where its author did not, and what keeps it from looking further out.
const IMPLIED: [(&[&str], &[&str], &[&str]); 6] = [
    (&BLOCKS, &["p"], &["div", "li", "td", "th", "table", "blockquote", "button", "object", "section", "article"]),
    (&["li"], &["li"], &["ul", "ol", "table"]),
    (&["dt", "dd"], &["dt", "dd"], &["dl", "table"]),
    (&["td", "th"], &["td", "th"], &["tr", "table"]),
    (&["tr"], &["tr"], &["tbody", "thead", "tfoot", "table"]),
    (&["tbody", "thead", "tfoot"], &["tbody", "thead", "tfoot"], &["table"]),
];
/// What an end within a table does not reach beyond.
const CELLS: [&str; 3] = ["td", "th", "table"];
const TABLE: [&str; 7] = ["table", "tbody", "thead", "tfoot", "tr", "td", "th"];

struct Level {
    name: LocalName,
    node: Handle,
    seen: bool,
}

struct State {
    open: Vec<Level>,
    title: String,
    titles: usize,
    mains: Vec<Handle>,
}

pub(super) struct Tree {
    base: Url,
    state: RefCell<State>,
}

impl Tree {
    pub(super) fn new(base: Url) -> Tree {
        let root = Level { name: LocalName::from(""), node: Node::new(NodeData::Document), seen: true };
        Tree {
            base,
            state: RefCell::new(State { open: vec![root], title: String::new(), titles: 0, mains: Vec::new() }),
        }
    }

    /// What is to be read (the page's `main`, if there is one), and the title in one line.
    pub(super) fn finish(&self) -> (Handle, String) {
        let state = self.state.borrow();
        let title = state.title.split_whitespace().collect::<Vec<_>>().join(" ");
        match (state.mains.as_slice(), state.open.first()) {
            ([main], _) => (main.clone(), title),
            (_, Some(root)) => (root.node.clone(), title),
            (_, None) => (Node::new(NodeData::Document), title),
        }
    }
}

impl TokenSink for Tree {
    type Handle = ();

    fn process_token(&self, token: Token, _: u64) -> TokenSinkResult<()> {
        let mut state = self.state.borrow_mut();
        match token {
            Token::CharacterTokens(text) => state.text(text),
            Token::TagToken(tag) if tag.kind == TagKind::EndTag => state.end(&tag.name),
            Token::TagToken(tag) => return state.begin(tag, &self.base),
            Token::DoctypeToken(_) | Token::CommentToken(_) | Token::NullCharacterToken => {}
            Token::EOFToken | Token::ParseError(_) => {}
        }
        TokenSinkResult::Continue
    }
}

impl State {
    fn begin(&mut self, tag: Tag, base: &Url) -> TokenSinkResult<()> {
        let name = tag.name.clone();
        let raw = match &*name {
            "script" => Some(RawKind::ScriptData),
            "title" | "textarea" => Some(RawKind::Rcdata),
            "style" | "iframe" | "noscript" | "noembed" | "noframes" | "xmp" => Some(RawKind::Rawtext),
            _ => None,
        };
        for (_, ended, stops) in IMPLIED.iter().filter(|(tags, _, _)| tags.contains(&&*name)) {
            self.close(ended, stops);
        }
        self.titles += usize::from(name == *"title");
        let mut attributes = tag.attrs;
        let Some(above) = self.open.last() else { return TokenSinkResult::Continue };
        let seen = above.seen && !SKIPPED.contains(&&*name) && !hidden(&attributes);
        if name == *"a" {
            attributes.retain_mut(|one| absolute(one, base));
        } else {
            attributes.retain(|one| matches!(&*one.name.local, "start" | "class" | "colspan" | "align"));
        }
        let node = Node::new(NodeData::Element {
            name: QualName::new(None, ns!(html), name.clone()),
            attrs: RefCell::new(attributes),
            template_contents: RefCell::new(None),
            mathml_annotation_xml_integration_point: false,
        });
        let void = tag.self_closing || VOID.contains(&&*name);
        let read = seen && (!VOID.contains(&&*name) || matches!(&*name, "br" | "hr"));
        // Raw text has an end of its own, whatever level it is on.
        let deep = self.open.len() >= DEEPEST && raw.is_none();
        if read && !deep {
            put(&above.node, node.clone());
            if name == *"main" {
                self.mains.push(node.clone());
            }
        }
        if !void && (!deep || (!seen && above.seen)) {
            self.open.push(Level { name, node, seen });
        }
        raw.filter(|_| !tag.self_closing).map_or(TokenSinkResult::Continue, TokenSinkResult::RawData)
    }

    fn end(&mut self, name: &LocalName) {
        let stops: &[&str] = if TABLE.contains(&&**name) { &["table"] } else { &CELLS };
        self.close(&[name], stops);
    }

    /// Ends the innermost of `names` and all within it, if nothing of `stops` is around it.
    fn close(&mut self, names: &[&str], stops: &[&str]) {
        for at in (1..self.open.len()).rev() {
            let name = &*self.open[at].name;
            if names.contains(&name) {
                self.open.truncate(at);
                return;
            }
            if stops.contains(&name) {
                return;
            }
        }
    }

    fn text(&mut self, text: StrTendril) {
        let Some(level) = self.open.last() else { return };
        if level.name == *"title" && self.titles == 1 {
            self.title.push_str(&text);
        }
        if !level.seen {
            return;
        }
        if let Some(last) = level.node.children.borrow().last()
            && let NodeData::Text { contents } = &last.data
        {
            contents.borrow_mut().push_tendril(&text);
            return;
        }
        put(&level.node, Node::new(NodeData::Text { contents: RefCell::new(text) }));
    }
}

fn put(parent: &Handle, child: Handle) {
    child.parent.set(Some(Rc::downgrade(parent)));
    parent.children.borrow_mut().push(child);
}

fn hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|one| match &*one.name.local {
        "hidden" => true,
        "aria-hidden" => &*one.value == "true",
        "style" => {
            let style: String = one.value.chars().filter(|c| !c.is_whitespace()).collect();
            let style = style.to_ascii_lowercase();
            ["display:none", "visibility:hidden", "font-size:0;", "opacity:0;"].iter().any(|how| style.contains(how))
        }
        _ => false,
    })
}

/// Keeps what a link leads to, whole; what is no address of a page is dropped.
fn absolute(one: &mut Attribute, base: &Url) -> bool {
    if &*one.name.local != "href" {
        return false;
    }
    match base.join(&one.value) {
        Ok(to) if matches!(to.scheme(), "http" | "https" | "mailto") => {
            one.value = StrTendril::from_slice(to.as_str());
            true
        }
        Ok(_) | Err(_) => false,
    }
}
