//! How deep a statement may be, told from its tokens before anything is built from it.
//!
//! The parser bounds its own recursion, but builds `a OR b OR c …` in a loop: a tree as deep as
//! the text is long, which what comes after copies and drops by recursion. And a statement of a
//! few hundred bytes can mean a plan of millions of nodes, where each WITH reads the one before
//! twice.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Cte, Query, Statement, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::lists;
use crate::error::{Error, Result};

/// Operators that follow one another without a comma: what bounds the depth of an expression.
/// Threads have stacks for several times as many ([`crate::THREAD_STACK_BYTES`]).
const CHAIN_MAX: usize = 4_000;
/// WITH inside WITH: resolving names takes twice the time for each.
const WITH_DEPTH_MAX: usize = 8;
/// Tables, functions and subqueries that a statement reads from.
const RELATIONS_MAX: u64 = 500;
/// CASE within CASE, those included that `coalesce` and the like become: DataFusion 55 takes
/// twice the time for each (`CaseBody::project` builds the inner ones anew).
const CASE_DEPTH_MAX: usize = 14;
/// Nodes of a plan, views and WITH written out.
const PLAN_NODES_MAX: u64 = 20_000;
/// Parentheses in one another: twice as many as the parser takes. It does not bound those of types.
const BRACKETS_MAX: usize = 256;
/// As many operators as a type in a type counts for (`STRUCT<STRUCT<…`): each takes several calls.
const TYPE_LINKS: usize = 64;
/// EXPLAIN of EXPLAIN, which the parser reads by recursion.
const EXPLAINS_MAX: usize = 16;
/// Operators with those before them in their chains, all together: at each operator, the planner walks
/// what is before it.
const WALKS_MAX: usize = 40_000_000;
/// Of those that compute, whose types it works out anew each time: 7 microseconds each.
const COMPUTED_WALKS_MAX: usize = 500_000;

/// What is counted between two parentheses.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Operators since the last comma, those around the parenthesis included.
    chain: usize,
    /// [`Self::chain`] at the last comma.
    base: usize,
    /// Of the chain, operators that compute: `+`, `||` and the like.
    computed: usize,
    /// [`Self::computed`] at the last comma.
    computed_base: usize,
    /// WITH here and around.
    withs: usize,
    /// Commas of the last list of a SELECT, GROUP BY or ORDER BY, and of FROM behind it. Half a million
    /// of its items are a gigabyte once they are parsed.
    listed: Option<usize>,
}

/// What is counted of a whole statement.
#[derive(Default)]
struct Sums {
    explains: usize,
    walks: usize,
    computed_walks: usize,
}

impl Sums {
    fn take(&mut self, token: &Token, level: &Level) {
        self.explains += usize::from(is_keyword(token, Keyword::EXPLAIN));
        if is_link(token) {
            self.walks += level.chain;
        }
        if computes(token) {
            self.computed_walks += level.computed;
        }
    }

    fn check(&self) -> Result<()> {
        if self.explains > EXPLAINS_MAX {
            return Err(Error::invalid("write EXPLAIN once, before the statement"));
        }
        if self.walks > WALKS_MAX || self.computed_walks > COMPUTED_WALKS_MAX {
            return Err(Error::invalid(
                "the expressions of the statement chain too many operators; write `column IN (…)` for \
                 alternatives, `concat(…)` for texts, or keep a step in a table of schema `space`",
            ));
        }
        Ok(())
    }
}

/// Refuses a text from which too deep a statement would be built.
pub fn check_text(sql: &str, dialect: &dyn Dialect) -> Result<()> {
    // What cannot be cut into tokens is for the parser to explain.
    let Ok(tokens) = Tokenizer::new(dialect, sql).tokenize() else {
        return Ok(());
    };
    let mut around: Vec<Level> = Vec::new();
    let mut level = Level::default();
    let mut sums = Sums::default();
    // The last that is no space.
    let mut before = &Token::EOF;
    for token in &tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                around.push(level);
                level.chain += 1;
                level.base = level.chain;
                level.computed_base = level.computed;
                level.listed = None;
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                level = around.pop().unwrap_or_default();
                level.chain += 1;
            }
            Token::Comma => {
                level.chain = level.base;
                level.computed = level.computed_base;
                level.listed = level.listed.map(|commas| commas + 1);
            }
            Token::Whitespace(_) => continue,
            token => {
                level.chain += usize::from(is_link(token));
                if is_keyword(token, Keyword::AND) || is_keyword(token, Keyword::OR) {
                    level.computed = level.computed_base;
                }
                level.computed += usize::from(computes(token));
                if opens_type(token, before) {
                    level.chain += TYPE_LINKS;
                    level.base += TYPE_LINKS;
                }
                sums.take(token, &level);
                // The tree of a set goes on behind the commas of its SELECTs.
                level.base += usize::from(is_set(token));
                level.withs += usize::from(is_keyword(token, Keyword::WITH));
                level.listed = list_after(token).unwrap_or(level.listed);
            }
        }
        before = token;
        sums.check()?;
        if around.len() > BRACKETS_MAX {
            return Err(Error::invalid(format!(
                "more than {BRACKETS_MAX} parentheses are in one another; give steps names in a WITH"
            )));
        }
        if level.chain > CHAIN_MAX {
            return Err(Error::invalid(format!(
                "an expression chains more than {CHAIN_MAX} operators; write `column IN (…)` for \
                 many alternatives, or put the values in a table of schema `space` and join it"
            )));
        }
        if level
            .listed
            .is_some_and(|commas| commas >= lists::ITEMS_PER_LIST_MAX)
        {
            return Err(lists::too_long());
        }
        if level.withs > WITH_DEPTH_MAX {
            return Err(Error::invalid(format!(
                "more than {WITH_DEPTH_MAX} WITH are nested in one another; list them after one \
                 WITH, separated by commas"
            )));
        }
    }
    Ok(())
}

/// True for a token that makes the tree deeper: all but names, values and separators.
fn is_link(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::DIV
                | Keyword::NOTNULL
                | Keyword::OVERLAPS
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::MINUS
                | Keyword::JOIN
                | Keyword::CASE
                | Keyword::INTERVAL
        ),
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Placeholder(_)
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    }
}

/// True for an operator that computes.
fn computes(token: &Token) -> bool {
    matches!(
        token,
        Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::DuckIntDiv
            | Token::StringConcat
            | Token::Ampersand
            | Token::Pipe
            | Token::Caret
            | Token::Sharp
            | Token::ShiftLeft
            | Token::ShiftRight
            | Token::Tilde
            | Token::Arrow
            | Token::LongArrow
    )
}

/// True for the bracket of a type that has types.
fn opens_type(token: &Token, before: &Token) -> bool {
    const TYPES: [Keyword; 3] = [Keyword::STRUCT, Keyword::ARRAY, Keyword::MAP];
    matches!(token, Token::Lt | Token::Neq) && TYPES.iter().any(|of| is_keyword(before, *of))
}

/// Whether a list begins behind a keyword, of items that are bounded; `None` where it goes on.
fn list_after(token: &Token) -> Option<Option<usize>> {
    if is_keyword(token, Keyword::SELECT) || is_keyword(token, Keyword::BY) {
        return Some(Some(0));
    }
    is_keyword(token, Keyword::VALUES).then_some(None)
}

/// True for what puts two queries together.
fn is_set(token: &Token) -> bool {
    const SETS: [Keyword; 4] = [
        Keyword::UNION,
        Keyword::EXCEPT,
        Keyword::INTERSECT,
        Keyword::MINUS,
    ];
    SETS.iter().any(|keyword| is_keyword(token, *keyword))
}

fn is_keyword(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword && word.quote_style.is_none())
}

/// Refuses a statement that reads from too many places, each name of a WITH counted as what it
/// stands for: planning walks all of that, and the schema of a join repeats those beneath it,
/// so that it takes the square of their number.
pub fn check_relations(statement: &Statement) -> Result<()> {
    let mut relations = Relations::default();
    // Never breaks.
    let _ = statement.visit(&mut relations);
    if let Statement::Drop { names, .. } = statement {
        relations.count += u64::try_from(names.len()).unwrap_or(u64::MAX);
    }
    if relations.count > RELATIONS_MAX {
        return Err(Error::invalid(format!(
            "the statement reads from more than {RELATIONS_MAX} tables and subqueries, each name \
             of a WITH counted as what it stands for; keep results in tables of schema `space` \
             and read those"
        )));
    }
    Ok(())
}

/// Counts what is read from, with the counts of the names of WITH.
#[derive(Default)]
struct Relations {
    count: u64,
    named: HashMap<String, u64>,
}

impl Relations {
    /// What a name stands for, counted apart. It is visited again where it is written, which
    /// counts a little too much; the nesting of WITH is bounded.
    fn name(&mut self, cte: &Cte) {
        let before = std::mem::take(&mut self.count);
        let _ = cte.query.visit(self);
        let count = std::mem::replace(&mut self.count, before);
        self.named
            .insert(cte.alias.name.value.to_lowercase(), count);
    }
}

impl Visitor for Relations {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.name(cte);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let count = match factor {
            TableFactor::Table { name, .. } => {
                let name = name.to_string().replace('"', "").to_lowercase();
                self.named.get(&name).copied().unwrap_or(1)
            }
            _ => 1,
        };
        self.count = self.count.saturating_add(count.max(1));
        ControlFlow::Continue(())
    }
}

/// Refuses a plan that is small only because its parts are shared.
pub fn check_plan_size(plan: &LogicalPlan) -> Result<()> {
    let nodes = Sizes::default().of(plan)?;
    if nodes > PLAN_NODES_MAX {
        return Err(Error::invalid(format!(
            "the statement means a plan of more than {PLAN_NODES_MAX} steps, its views and WITH \
             written out; keep results in tables of schema `space` and read those"
        )));
    }
    Ok(())
}

/// Refuses an optimised plan in which CASE is nested too deep.
pub fn check_cases(plan: &LogicalPlan) -> Result<()> {
    let mut deepest = 0;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            let mut depth = CaseDepth::default();
            expr.visit(&mut depth)?;
            deepest = deepest.max(depth.deepest);
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if deepest > CASE_DEPTH_MAX {
        return Err(Error::invalid(format!(
            "CASE, coalesce or the like are nested {deepest} deep and at most {CASE_DEPTH_MAX} \
             are allowed; write the conditions one after another in one CASE"
        )));
    }
    Ok(())
}

#[derive(Default)]
struct CaseDepth {
    now: usize,
    deepest: usize,
}

impl<'n> TreeNodeVisitor<'n> for CaseDepth {
    type Node = Expr;

    fn f_down(&mut self, node: &'n Expr) -> datafusion::error::Result<TreeNodeRecursion> {
        self.now += usize::from(matches!(node, Expr::Case(_)));
        self.deepest = self.deepest.max(self.now);
        Ok(TreeNodeRecursion::Continue)
    }

    fn f_up(&mut self, node: &'n Expr) -> datafusion::error::Result<TreeNodeRecursion> {
        self.now -= usize::from(matches!(node, Expr::Case(_)));
        Ok(TreeNodeRecursion::Continue)
    }
}

/// Sizes of plans by the address of their node: a part that is shared is walked once.
#[derive(Default)]
struct Sizes {
    known: HashMap<*const LogicalPlan, u64>,
}

impl Sizes {
    fn of(&mut self, plan: &LogicalPlan) -> Result<u64> {
        let address = std::ptr::from_ref(plan);
        if let Some(size) = self.known.get(&address) {
            return Ok(*size);
        }
        let mut size = 1_u64;
        for input in plan.inputs() {
            size = size.saturating_add(self.of(input)?);
        }
        plan.apply_expressions(|expr| {
            expr.apply(|part| {
                let (subquery, times) = match part {
                    Expr::ScalarSubquery(subquery) => (subquery, 1),
                    Expr::Exists(exists) => (&exists.subquery, 1),
                    Expr::InSubquery(within) => (&within.subquery, 1),
                    // Becomes two EXISTS.
                    Expr::SetComparison(compared) => (&compared.subquery, 2),
                    _ => return Ok(TreeNodeRecursion::Continue),
                };
                let subquery = self.of(&subquery.subquery)?;
                size = size.saturating_add(subquery.saturating_mul(times));
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        self.known.insert(address, size);
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    fn is_refused(sql: &str) -> bool {
        check_text(sql, &GenericDialect {}).is_err()
    }

    #[test]
    fn depth_is_refused_and_length_is_not() {
        for deep in [
            format!("SELECT 1{}", "+1".repeat(5_000)),
            format!(
                "SELECT * FROM t WHERE {}",
                vec!["a = 1"; 5_000].join(" OR ")
            ),
            vec!["SELECT 1"; 5_000].join(" UNION ALL "),
            vec!["SELECT 1, 1"; 60_000].join(" UNION "),
            vec!["SELECT f(1, 1), 1"; 5_000].join(" EXCEPT ALL "),
            format!("SELECT a{} FROM t", "::INT".repeat(5_000)),
            format!("SELECT a{} FROM t", "[1]".repeat(5_000)),
            format!("SELECT a{}", ".b".repeat(5_000)),
            format!("SELECT f(1, 2){}", " + f(1, 2)".repeat(5_000)),
            format!("SELECT {}", vec!["1"; 5_000].join(", ")),
            format!("SELECT 1 FROM t ORDER BY {}", vec!["1"; 5_000].join(", ")),
            format!(
                "SELECT 1 IN (SELECT a FROM t GROUP BY {})",
                vec!["a"; 5_000].join(", ")
            ),
            format!("SELECT {}1{}", "(1, ".repeat(5_000), ")".repeat(5_000)),
            format!("{}SELECT 1", "EXPLAIN ".repeat(130_000)),
            format!("SELECT CAST(1 AS {}", "STRUCT<INT, ".repeat(90_000)),
            format!("SELECT CAST(1 AS {}", "Nullable(".repeat(300)),
            format!("SELECT {} FROM t", vec!["a"; 1_500].join("+")),
            format!(
                "SELECT {} FROM t",
                vec![vec!["a"; 300].join("||"); 20].join(", ")
            ),
            format!(
                "SELECT {}",
                vec![vec!["a = 1"; 1_900].join(" OR "); 10].join(", ")
            ),
        ] {
            assert!(is_refused(&deep), "{}", &deep[..60]);
        }
        for long in [
            format!(
                "SELECT * FROM t WHERE a IN ({})",
                vec!["-1"; 50_000].join(", ")
            ),
            format!(
                "INSERT INTO t VALUES {}",
                vec!["(-1, 'a', 2 + 3)"; 20_000].join(", ")
            ),
            format!("SELECT {}", vec!["a + b * (c - 1)"; 4_000].join(", ")),
            format!(
                "SELECT 1 UNION ALL VALUES {}",
                vec!["(1)"; 5_000].join(", ")
            ),
            vec![format!("SELECT {}", vec!["1"; 3_000].join(", ")); 2].join(" UNION "),
            format!("SELECT '{}'", "+".repeat(100_000)),
            format!("SELECT {} FROM t", vec!["a"; 500].join("+")),
            format!("SELECT {} FROM t", vec!["a+b+c+d+e"; 4_000].join(", ")),
            "EXPLAIN SELECT CAST(1 AS STRUCT<a INT, b ARRAY<INT>>), explain FROM t".to_owned(),
        ] {
            assert!(!is_refused(&long), "{}", &long[..60]);
        }
    }

    #[test]
    fn nested_with_is_bounded_and_listed_with_is_not() {
        let nested = |depth: usize| {
            let open = "WITH c AS (".repeat(depth);
            let close = ") SELECT * FROM c".repeat(depth);
            format!("{open}SELECT 1{close}")
        };
        assert!(!is_refused(&nested(WITH_DEPTH_MAX)));
        assert!(is_refused(&nested(WITH_DEPTH_MAX + 1)));
        let listed: Vec<String> = (0..200).map(|i| format!("c{i} AS (SELECT 1)")).collect();
        assert!(!is_refused(&format!("WITH {} SELECT 1", listed.join(", "))));
    }
}
