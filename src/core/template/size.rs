//! How long an expression may be. Invariant: what passes is parsed, checked and dropped without
//! overflowing the stack; the engine goes one call deeper with every operator in a row.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::build::{Fault, FaultKind};
use super::syntax::range;

/// Most words and signs of one expression; a text in quotes is one.
pub(super) const TOKENS_MAX: usize = 1000;
/// Most `elif` in one template: each is one call deeper than the one before.
const ELIF_MAX: usize = 200;

/// The first expression of `source` that is too long. Prose between expressions does not count; what
/// cannot be read is left to the parser.
pub(super) fn too_long(source: &str, is_expression: bool) -> Option<Fault> {
    let (mut count, mut start, mut branches) = (0, 0..0, 0);
    let mut opened = false;
    for token in tokenize(source, is_expression, SyntaxConfig::default()) {
        let Ok((token, span)) = token else { return None };
        match token {
            Token::TemplateData(_) | Token::VariableEnd | Token::BlockEnd => count = 0,
            Token::VariableStart | Token::BlockStart => (count, opened) = (0, true),
            token => {
                if std::mem::take(&mut opened) && matches!(token, Token::Ident("elif")) {
                    branches += 1;
                }
                if count == 0 {
                    start = range(span);
                }
                count += 1;
            }
        }
        let (message, help) = if count > TOKENS_MAX {
            let message = format!("the expression that begins here has more than {TOKENS_MAX} words and signs");
            (message, "say it shorter, or let an earlier task work out a part of it")
        } else if branches > ELIF_MAX {
            (format!("this is more than the {ELIF_MAX} `elif` that a template may have"), "name the choices in a list")
        } else {
            continue;
        };
        return Some(Fault { kind: FaultKind::Syntax, range: start, message, help: Some(help.to_owned()) });
    }
    None
}
