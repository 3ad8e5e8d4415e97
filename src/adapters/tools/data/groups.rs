//! Figures by group. Invariant: the number of groups and their size are bounded; groups come in the order
//! in which the file has them.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::number::Num;
use super::test::{compare, empty, text};
use super::{KEPT_MOST, Row, cell, rows};

/// Bytes of a cell that min and max keep.
const LONGEST: usize = 256;
/// Most groups of a call.
const MOST: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Figure {
    Count,
    Sum,
    Min,
    Max,
    Mean,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Aggregate {
    #[serde(rename = "fn")]
    figure: Figure,
    pub column: Option<String>,
}

impl Aggregate {
    pub fn check(&self) -> Result<(), String> {
        let name = self.word();
        match (self.figure, &self.column) {
            (Figure::Count, _) | (_, Some(_)) => Ok(()),
            (Figure::Sum | Figure::Min | Figure::Max | Figure::Mean, None) => {
                Err(format!("aggregate: `{name}` needs a `column`"))
            }
        }
    }
    fn word(&self) -> &'static str {
        match self.figure {
            Figure::Count => "count",
            Figure::Sum => "sum",
            Figure::Min => "min",
            Figure::Max => "max",
            Figure::Mean => "mean",
        }
    }
    /// Its column of the answer: `count`, `sum(amount)`.
    pub fn name(&self) -> String {
        self.column.as_ref().map_or_else(|| self.word().to_owned(), |column| format!("{}({column})", self.word()))
    }
}

/// What is worked out: rows are counted where nothing is said.
pub(super) fn figures(stated: &[Aggregate]) -> Vec<Aggregate> {
    if stated.is_empty() { vec![Aggregate { figure: Figure::Count, column: None }] } else { stated.to_vec() }
}

/// A figure of one group so far; cells that are empty do not count.
#[derive(Clone, Default)]
struct Sum {
    count: u64,
    sum: Option<Num>,
    end: Option<Value>,
}

impl Sum {
    fn add(&mut self, of: &Aggregate, number: u64, row: &Row) -> Result<(), String> {
        let Some(column) = &of.column else {
            self.count += 1;
            return Ok(());
        };
        let Some(found) = cell(row, column).filter(|cell| !empty(cell)) else { return Ok(()) };
        self.count += 1;
        match of.figure {
            Figure::Count => {}
            Figure::Sum | Figure::Mean => {
                let wrong = || {
                    let found: String = text(found).chars().take(60).collect();
                    format!(
                        "row {number}: `{column}` is `{found}`, expected a number; leave such rows out with `where`"
                    )
                };
                let num = Num::of(found).ok_or_else(wrong)?;
                self.sum = Some(self.sum.map_or(num, |sum| sum.plus(num)));
            }
            Figure::Min | Figure::Max if rows::weight(found) > LONGEST => {
                return Err(format!(
                    "row {number}: `{column}` has more than {LONGEST} bytes, too many for min and max"
                ));
            }
            Figure::Min if self.end.as_ref().is_none_or(|end| compare(found, end).is_lt()) => {
                self.end = Some(found.clone())
            }
            Figure::Max if self.end.as_ref().is_none_or(|end| compare(found, end).is_gt()) => {
                self.end = Some(found.clone())
            }
            Figure::Min | Figure::Max => {}
        }
        Ok(())
    }
    fn value(self, of: &Aggregate) -> Value {
        match of.figure {
            Figure::Count => self.count.into(),
            Figure::Sum => self.sum.map_or(0.into(), Num::json),
            Figure::Mean => self.sum.map_or(Value::Null, |sum| sum.over(self.count).json()),
            Figure::Min | Figure::Max => self.end.map_or(Value::Null, |end| Num::of(&end).map_or(end, Num::json)),
        }
    }
}

pub(super) struct Groups<'a> {
    by: &'a [String],
    figures: Vec<Aggregate>,
    index: HashMap<String, usize>,
    groups: Vec<(Row, Vec<Sum>)>,
    bytes: usize,
}

impl<'a> Groups<'a> {
    pub fn new(by: &'a [String], stated: &[Aggregate]) -> Groups<'a> {
        let figures = figures(stated);
        // Figures over all rows exist for no rows too.
        let groups = if by.is_empty() { vec![(Row::new(), vec![Sum::default(); figures.len()])] } else { Vec::new() };
        Groups { by, figures, index: HashMap::new(), groups, bytes: 0 }
    }

    pub fn add(&mut self, number: u64, row: &Row) -> Result<(), String> {
        let at = if self.by.is_empty() { 0 } else { self.group(row)? };
        let Some((_, sums)) = self.groups.get_mut(at) else { return Ok(()) };
        sums.iter_mut().zip(&self.figures).try_for_each(|(sum, of)| sum.add(of, number, row))
    }

    fn group(&mut self, row: &Row) -> Result<usize, String> {
        let cells = self.by.iter().map(|column| (column.clone(), cell(row, column).cloned().unwrap_or(Value::Null)));
        let cells: Row = cells.collect();
        let key = Value::from(cells.values().cloned().collect::<Vec<_>>()).to_string();
        if let Some(at) = self.index.get(&key) {
            return Ok(*at);
        }
        self.bytes += rows::size(&cells) + key.len();
        if self.groups.len() >= MOST || self.bytes > KEPT_MOST {
            return Err(format!(
                "more than {} groups; group by a column with fewer values, or narrow with `where`",
                self.groups.len()
            ));
        }
        self.groups.push((cells, vec![Sum::default(); self.figures.len()]));
        self.index.insert(key, self.groups.len() - 1);
        Ok(self.groups.len() - 1)
    }

    pub fn finish(self) -> impl Iterator<Item = Row> {
        let figures = self.figures;
        self.groups.into_iter().map(move |(mut row, sums)| {
            row.extend(sums.into_iter().zip(&figures).map(|(sum, of)| (of.name(), sum.value(of))));
            row
        })
    }
}
