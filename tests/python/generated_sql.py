"""Seeded random SQL over the tables of `test_differential.py`.

The same seed gives the same text. Queries are wild on purpose: joins of every kind, windows, set
operations, subqueries of every kind, casts and functions that fail on some values. What decides
whether two servers agree must not be chance, so:

- a query whose rows have no total order is compared as a multiset, and LIMIT needs that order;
- a sum of floats depends on the order of the rows: such a column (type `F`) is only shown;
- an expression that may fail is never a part of AND or OR, which DataFusion evaluates on all rows
  of a batch or on some, as it finds quicker.
"""

import random
from dataclasses import dataclass, field

# Types: i integer, f float, F float that depends on the order of rows, n decimal, t text,
# d date, s timestamp, b boolean, l list of text, v list of floats.
TABLES = {
    "persons": {
        "pid": "i", "birth_year": "i", "sex": "i", "commune": "t", "name": "t", "born": "d", "grade": "i",
        "income": "n", "score": "f", "weight": "f", "code": "t", "tags": "l",
    },
    "stays": {
        "stay_id": "i", "pid": "i", "entered": "d", "left_on": "d", "cost": "n", "n": "i", "div": "i",
        "zero": "i", "big": "i", "code": "t", "mixed": "t", "unit": "t", "note": "t", "pattern": "t",
        "hexa": "t", "iso": "t", "flag": "b", "at": "s", "vals": "v", "x": "f", "rare": "i",
    },
    "diagnoses": {
        "diag_id": "i", "stay_id": "i", "icd": "t", "rank": "i", "ratio": "f", "amount": "i", "div": "i",
        "code": "t", "severity": "t",
    },
    "labels": {"icd": "t", "label": "t", "chapter": "i"},
}
KEYS = {"persons": "pid", "stays": "stay_id", "diagnoses": "diag_id", "labels": "icd"}
# Pairs that lead from one table to another.
LINKS = [("persons", "pid", "stays", "pid"), ("stays", "stay_id", "diagnoses", "stay_id"),
         ("diagnoses", "icd", "labels", "icd")]
# Columns that a project may show as pseudonyms, which differ between projects.
IDENTIFIERS = {("persons", "pid"), ("stays", "pid")}
# Not granted, or no column at all.
ABSENT = {"persons": ["secret", "died"], "stays": ["secret", "sekret"], "diagnoses": ["secret"], "labels": ["nothing"]}

# Expressions that fail on hidden rows and on no visible one, and those that fail on a few visible
# rows: by table, with the type of their value.
TRAPS = {
    "stays": [
        ("i", "CAST({a}.code AS INT)"), ("i", "CAST({a}.code AS BIGINT) % 7"), ("i", "100 / {a}.div"),
        ("i", "{a}.n % {a}.div"), ("i", "CAST({a}.big AS INT)"), ("i", "CAST({a}.n AS SMALLINT)"),
        ("i", "arrow_cast({a}.n, 'Int16')"), ("i", "CAST({a}.x AS BIGINT)"), ("d", "CAST({a}.iso AS DATE)"),
        ("s", "to_timestamp({a}.iso)"), ("d", "to_date({a}.iso)"), ("i", "regexp_count({a}.note, 'o.')"),
        ("t", "regexp_replace({a}.note, '[a-f]+', '-')"), ("b", "regexp_like({a}.note, '^s')"),
        ("t", "encode(decode({a}.hexa, 'hex'), 'base64')"), ("n", "CAST({a}.cost AS DECIMAL(7,2))"),
        ("n", "{a}.cost / CAST({a}.div AS DECIMAL(10,0))"), ("n", "CAST({a}.code AS DECIMAL(6,1))"),
        ("i", "CAST(CAST({a}.big AS DOUBLE) AS INT)"), ("t", "split_part({a}.note, ' ', {a}.div)"),
        ("i", "arrow_cast({a}.code, 'UInt32')"), ("b", "CAST({a}.code AS DOUBLE) > 40"),
        ("i", "factorial(abs({a}.n) / 50000000)"),
        ("i", "date_part('day', CAST({a}.iso AS TIMESTAMP))"), ("i", "gcd({a}.big, -9223372036854775807)"),
    ],
    "persons": [
        ("i", "CAST({a}.code AS INT)"), ("f", "CAST({a}.code AS DOUBLE)"),
        ("n", "{a}.income / CAST({a}.code AS DECIMAL(10,0))"), ("i", "CAST({a}.score AS INT)"),
        ("i", "1000 / CAST({a}.code AS INT)"),
    ],
    "diagnoses": [
        ("i", "{a}.amount / {a}.div"), ("i", "CAST({a}.code AS INT)"), ("i", "CAST({a}.amount AS INT)"),
        ("i", "arrow_cast({a}.code, 'Int8')"), ("b", "{a}.amount % {a}.div = 0"),
    ],
    "labels": [],
}
MINES = {
    "stays": [
        ("i", "CAST({a}.mixed AS INT)"), ("i", "100 / {a}.zero"), ("i", "arrow_cast({a}.mixed, 'Int16')"),
        ("b", "{a}.n % {a}.zero = 0"), ("f", "CAST({a}.mixed AS DOUBLE)"), ("i", "CAST({a}.n AS TINYINT)"),
        ("d", "CAST({a}.note AS DATE)"), ("t", "encode(decode({a}.mixed, 'hex'), 'hex')"),
    ],
    "persons": [("i", "CAST({a}.name AS INT)"), ("i", "10 / ({a}.birth_year - 1950)"), ("i", "arrow_cast({a}.birth_year, 'UInt8')")],
    "diagnoses": [("i", "{a}.amount / ({a}.rank - 3)"), ("i", "CAST({a}.severity AS INT)"), ("n", "CAST({a}.amount AS DECIMAL(2,0))")],
    "labels": [("i", "1 / ({a}.chapter - 3)")],
}
WORDS = ["é", "CARD", "Hôpital", "a", "12", "-", " ", "I10", "œ", "75", "KANARI", "KANARI-3"]
DATES = ["2022-06-30", "2023-01-01", "2023-07-14", "2024-02-29", "2024-11-05", "1962-01-01"]


@dataclass
class Scope:
    """What stands in FROM: columns by type, and the tables whose own columns are all there."""

    columns: list = field(default_factory=list)
    tables: list = field(default_factory=list)

    def of(self, kind):
        return [name for name, found in self.columns if found == kind]

    def __add__(self, other):
        return Scope(self.columns + other.columns, self.tables + other.tables)


@dataclass
class Query:
    sql: str
    ordered: bool
    # Holds an expression that fails on visible rows: which of several errors comes first, and
    # whether pruning comes before it, is then the engine's choice.
    mine: bool
    trap: bool


class Generator:
    def __init__(self, seed, identifiers=False):
        self.random = random.Random(seed)
        self.identifiers = identifiers
        self.aliases = 0
        self.risk = self.random.choices([None, "trap", "mine"], [30, 35, 35])[0]
        self.placed = None
        self.limited = False

    def chance(self, share):
        return self.random.random() < share

    def pick(self, *choices):
        return self.random.choice(choices)

    def alias(self):
        self.aliases += 1
        return f"t{self.aliases}"

    # --- expressions that cannot fail ---

    def literal(self, kind):
        return {
            "i": lambda: str(self.pick(0, 1, 2, 3, 5, 7, 10, 50, 100, 1960, 2147483647, -4)),
            "f": lambda: self.pick("0.5", "1.5", "-2.25", "100.0", "1e9"),
            "n": lambda: f"CAST({self.pick('12.50', '-3.10', '999.99', '0.00')} AS DECIMAL(10,2))",
            "t": lambda: f"'{self.pick(*WORDS)}'",
            "d": lambda: f"DATE '{self.pick(*DATES)}'",
            "s": lambda: f"TIMESTAMP '{self.pick(*DATES)}T10:30:00'",
            "b": lambda: self.pick("true", "false", "CAST(NULL AS BOOLEAN)"),
            "l": lambda: "make_array('a', 'é')",
            "v": lambda: "make_array(1.5, 2.5)",
        }[kind]()

    def leaf(self, kind, scope):
        columns = scope.of(kind)
        if columns and self.chance(0.93):
            return self.random.choice(columns)
        if kind == "b" and self.chance(0.9):
            return self.comparison(scope, 0)
        return self.literal(kind)

    def expr(self, kind, scope, depth=2):
        if depth <= 0 or self.chance(0.25):
            return self.leaf(kind, scope)
        e = lambda other, less=1: self.expr(other, scope, depth - less)  # noqa: E731
        if self.chance(0.12):
            return f"CASE WHEN {e('b')} THEN {e(kind)} WHEN {e('b')} THEN {e(kind)} ELSE {e(kind)} END"
        if self.chance(0.08):
            return f"coalesce({e(kind)}, {e(kind)})"
        makers = {
            "i": [
                lambda: f"({e('i')} {self.pick('+', '-', '*')} {e('i')})",
                lambda: f"({e('i')} % nullif({self.leaf('i', scope)}, 0))",
                lambda: f"CAST(date_part('{self.pick('year', 'month', 'dow', 'doy')}', {e('d')}) AS BIGINT)",
                lambda: f"CAST(character_length({e('t')}) AS BIGINT)",
                lambda: f"TRY_CAST({e('t')} AS BIGINT)",
                lambda: f"CAST(strpos({e('t')}, {self.literal('t')}) AS BIGINT)",
                lambda: f"CAST(array_length({self.leaf('l', scope)}) AS BIGINT)",
                lambda: f"nullif({e('i')}, {e('i')})",
                lambda: f"{self.pick('greatest', 'least')}({e('i')}, {e('i')})",
                lambda: f"CAST(octet_length({e('t')}) AS BIGINT)",
                lambda: f"CAST({e('b')} AS BIGINT)",
                lambda: f"({e('i')} {self.pick('&', '|')} {self.leaf('i', scope)})",
            ],
            "f": [
                lambda: f"({e('f')} {self.pick('+', '-', '*')} {e('f')})",
                lambda: f"round({e('f')}, {self.pick(0, 1, 3)})",
                lambda: f"sqrt(abs({e('f')}))",
                lambda: f"CAST({e('i')} AS DOUBLE)",
                lambda: f"CAST({e('n')} AS DOUBLE)",
                lambda: f"nanvl({e('f')}, {self.literal('f')})",
                lambda: f"({e('f')} / {e('f')})",
                lambda: f"array_max({self.leaf('v', scope)})",
                lambda: f"{self.pick('sin', 'floor', 'ceil', 'atan', 'signum', 'ln')}({e('f')})",
            ],
            "n": [
                lambda: f"({e('n')} {self.pick('+', '-')} {self.literal('n')})",
                lambda: f"abs({e('n')})",
                lambda: f"CAST({self.leaf('n', scope)} * 2 AS DECIMAL(16,2))",
            ],
            "t": [
                lambda: f"({e('t')} || {e('t')})",
                lambda: f"{self.pick('upper', 'lower', 'reverse', 'initcap', 'trim', 'md5')}({e('t')})",
                lambda: f"substr({e('t')}, {self.pick(1, 2, 3)}, {self.pick(0, 1, 4)})",
                lambda: f"{self.pick('left', 'right')}({e('t')}, {self.pick(1, 3, -1)})",
                lambda: f"replace({e('t')}, {self.literal('t')}, {self.literal('t')})",
                lambda: f"{self.pick('lpad', 'rpad')}({e('t')}, {self.pick(1, 5, 12)}, 'é')",
                lambda: f"CAST({e(self.pick('i', 'd', 'n', 'b'))} AS VARCHAR)",
                lambda: f"split_part({e('t')}, {self.pick(repr(' '), repr('-'))}, {self.pick(1, 2, -1)})",
                lambda: f"to_char({e('d')}, '{self.pick('%Y-%m', '%d/%m/%Y', '%j')}')",
                lambda: f"array_to_string({self.leaf('l', scope)}, '+')",
                lambda: f"translate({e('t')}, 'éèa', 'eeA')",
                lambda: f"regexp_replace({e('t')}, '{self.pick('[0-9]+', '^.', 'é|è', '(A|B)')}', '_')",
                lambda: f"arrow_typeof({e(self.pick('i', 't', 'd'))})",
            ],
            "d": [
                lambda: f"CAST(({e('d')} {self.pick('+', '-')} INTERVAL '{self.pick(1, 30, 400)}' DAY) AS DATE)",
                lambda: f"CAST(date_trunc('{self.pick('month', 'year', 'week')}', {e('d')}) AS DATE)",
                lambda: f"CAST({e('s')} AS DATE)",
            ],
            "s": [
                lambda: f"date_trunc('{self.pick('hour', 'day', 'month')}', {e('s')})",
                lambda: f"CAST({e('d')} AS TIMESTAMP)",
                lambda: f"({e('s')} + INTERVAL '{self.pick(1, 36)}' HOUR)",
            ],
            "b": [
                lambda: self.comparison(scope, depth - 1),
                lambda: self.comparison(scope, depth - 1),
                lambda: f"({e('b')} {self.pick('AND', 'OR')} {e('b')})",
                lambda: f"(NOT {e('b')})",
                lambda: f"({e(self.pick('i', 't', 'd', 'f', 'n', 'b'))} IS {self.pick('', 'NOT ')}NULL)",
                lambda: f"({e('t')} {self.pick('LIKE', 'NOT LIKE', 'ILIKE')} '{self.pick('%a%', 'C%', '_0%', '%é%', 'KANARI%')}')",
                lambda: f"({e('i')} {self.pick('', 'NOT ')}IN ({self.literal('i')}, {self.literal('i')}, {self.literal('i')}))",
                lambda: f"({e('t')} {self.pick('', 'NOT ')}IN ({self.literal('t')}, {self.literal('t')}, NULL))",
                lambda: f"({e('d')} {self.pick('', 'NOT ')}BETWEEN {self.literal('d')} AND {self.literal('d')})",
                lambda: f"regexp_like({e('t')}, '{self.pick('^[A-Z]', '[0-9]{2}', 'é')}')",
                lambda: f"starts_with({e('t')}, {self.literal('t')})",
                lambda: f"array_has({self.leaf('l', scope)}, {self.literal('t')})",
                lambda: f"isnan({e('f')})",
            ],
            "l": [lambda: f"array_append({self.leaf('l', scope)}, {e('t')})", lambda: f"string_to_array({e('t')}, ' ')"],
            "v": [lambda: f"array_reverse({self.leaf('v', scope)})"],
        }
        return self.random.choice(makers[kind])()

    def comparison(self, scope, depth):
        kind = self.kind(scope, "iittdfns")
        op = self.pick("=", "<", ">", "<=", ">=", "<>", "IS DISTINCT FROM")
        columns = scope.of(kind)
        if columns and (depth <= 0 or self.chance(0.5)):
            # A plain comparison, which may go below the barrier.
            return f"({self.random.choice(columns)} {op} {self.literal(kind)})"
        return f"({self.expr(kind, scope, depth)} {op} {self.expr(kind, scope, depth)})"

    # --- expressions that may fail ---

    def risky(self, kind, scope):
        """An expression of this type that may fail, at most one in a query."""
        if self.risk is None or self.placed or not scope.tables:
            return None
        catalogue = TRAPS if self.risk == "trap" else MINES
        alias, table = self.random.choice(scope.tables)
        fitting = [text for found, text in catalogue[table] if kind in (None, found)]
        if not fitting:
            return None
        self.placed = self.risk
        return self.random.choice(fitting).format(a=alias)

    def value(self, kind, scope, depth=2, share=0.35):
        """An expression; sometimes, in the middle of it, one that may fail."""
        risky = self.risky(kind, scope) if self.chance(share) else None
        if risky is None and depth == 2 and kind in "itd" and self.chance(0.05):
            source, inner = self.table()
            return f"(SELECT {self.pick('max', 'min')}({self.value(kind, inner, 1, 0.5)}) FROM {source})"
        if risky is None:
            return self.expr(kind, scope, depth)
        other = self.expr(kind, scope, 1)
        return self.pick(
            risky, risky, f"coalesce({risky}, {other})", f"nullif({risky}, {other})",
            f"CASE WHEN {self.expr('b', scope, 1)} THEN {risky} ELSE {other} END",
            f"CASE WHEN {self.expr('b', scope, 1)} THEN {other} ELSE {risky} END",
        )

    def predicate(self, scope, correlated=False):
        """A condition: a risky one stands alone."""
        if self.chance(0.3):
            kind = self.pick("i", "i", "t", "d", "b", "n")
            risky = self.risky(kind, scope)
            if risky:
                if kind == "b":
                    return risky
                return self.pick(
                    f"{risky} {self.pick('>', '<', '<>', '=')} {self.expr(kind, scope, 1)}",
                    f"{risky} IS {self.pick('', 'NOT ')}NULL",
                    f"{risky} {self.pick('', 'NOT ')}IN ({self.literal(kind)}, {self.literal(kind)})",
                    f"CASE WHEN {self.expr('b', scope, 1)} THEN {risky} > {self.literal(kind)} ELSE true END",
                )
        if self.chance(0.22):
            return self.subquery(scope)
        return self.expr("b", scope, self.pick(1, 2, 3))

    # --- relations ---

    def table(self, name=None):
        name = name or self.pick("stays", "stays", "stays", "persons", "diagnoses", "diagnoses", "labels")
        alias = self.alias()
        columns = [(f"{alias}.{column}", self.shown(name, column, kind)) for column, kind in TABLES[name].items()]
        return f"{name} AS {alias}", Scope(columns, [(alias, name)])

    def shown(self, table, column, kind):
        return "id" if self.identifiers and (table, column) in IDENTIFIERS else kind

    def key(self, scope):
        """A column that tells every row of the scope from the others."""
        if len(scope.tables) != 1:
            return None
        alias, table = scope.tables[0]
        # Numbers beside a table repeat its rows.
        if any(not name.startswith(f"{alias}.") for name, _ in scope.columns):
            return None
        if self.identifiers and (table, KEYS[table]) in IDENTIFIERS:
            return None
        return f"{alias}.{KEYS[table]}"

    def relation(self, depth):
        roll = self.random.random()
        if depth > 0 and roll < 0.42:
            return self.join(depth)
        if depth > 0 and roll < 0.58:
            sql, columns, _ = self.select(depth - 1)
            alias = self.alias()
            scope = Scope([(f"{alias}.{name}", kind) for name, kind in columns])
            return f"({sql}) AS {alias}", scope
        if depth > 0 and roll < 0.62:
            return self.numbers()
        if depth > 0 and roll < 0.67:
            return self.unnested()
        return self.table()

    def numbers(self):
        """A table with a few numbers beside it."""
        sql, scope = self.table()
        alias = self.alias()
        series = f"generate_series(1, {self.pick(1, 2, 3)}) AS {alias}"
        if self.chance(0.4):
            series = f"(VALUES (1, 'é', 7), (2, NULL, 50), (3, '75', NULL)) AS {alias} (value, word, other)"
            scope = scope + Scope([(f"{alias}.word", "t"), (f"{alias}.other", "i")])
        scope = scope + Scope([(f"{alias}.value", "i")])
        if self.chance(0.5):
            return (f"{sql} {self.pick('JOIN', 'LEFT JOIN')} {series} "
                    f"ON {self.leaf('i', scope)} {self.pick('=', '=', '<')} {alias}.value"), scope
        return f"{sql} CROSS JOIN {series}", scope

    def unnested(self):
        """Each value of a list on a row of its own."""
        column, alias = self.alias(), self.alias()
        sql, scope = self.table(self.pick("persons", "stays"))
        own, table = scope.tables[0]
        kept = [(name, kind) for name, kind in scope.columns if kind in "itdfnb"]
        kept = self.random.sample(kept, 3)
        shown = ", ".join(f"{name} AS k{index}" for index, (name, _) in enumerate(kept))
        item, kind = ("tags", "t") if table == "persons" else ("vals", "f")
        scope = Scope([(f"{alias}.k{index}", found) for index, (_, found) in enumerate(kept)]
                      + [(f"{alias}.{column}", kind)])
        return f"(SELECT {shown}, unnest({own}.{item}) AS {column} FROM {sql}) AS {alias}", scope

    def join(self, depth):
        left, one, right, other = self.random.choice(LINKS)
        if self.chance(0.5):
            left, one, right, other = right, other, left, one
        left_sql, left_scope = self.table(left)
        right_sql, right_scope = self.table(right)
        (a, _), (b, _) = left_scope.tables[0], right_scope.tables[0]
        on = f"{a}.{one} = {b}.{other}"
        both = left_scope + right_scope
        kind = self.pick("JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN")
        if self.chance(0.25):
            on += f" AND {self.expr('b', both, 1)}"
        elif self.chance(0.15) and left != right:
            risky = self.risky("i", right_scope)
            if risky:
                on = f"{a}.{one} = {b}.{other} AND {risky} = {self.expr('i', right_scope, 1)}"
        sql = f"{left_sql} {kind} {right_sql} ON {on}"
        scope = left_scope if kind.endswith(("SEMI JOIN", "ANTI JOIN")) else both
        if depth > 1 and self.chance(0.25) and right == "stays":
            third, third_scope = self.table("diagnoses")
            sql += f" {self.pick('JOIN', 'LEFT JOIN')} {third} ON {b}.stay_id = {third_scope.tables[0][0]}.stay_id"
            scope = scope + third_scope if scope is both else scope
            if scope is left_scope:
                return f"{left_sql} {kind} {right_sql} ON {on}", scope
        return sql, scope

    def subquery(self, scope):
        links = [(f"{alias}.{one}", right, other) for alias, table in scope.tables
                 for left, one, right, other in LINKS + [(r, o, lt, n) for lt, n, r, o in LINKS] if left == table]
        inner_sql, inner = self.table()
        if links and self.chance(0.75):
            outer, table, column = self.random.choice(links)
            inner_sql, inner = self.table(table)
            own = f"{inner.tables[0][0]}.{column}"
            extra = f" AND {self.predicate_of_inner(inner)}" if self.chance(0.6) else ""
            shape = self.random.randrange(4)
            if shape == 0:
                return f"{self.pick('', 'NOT ')}EXISTS (SELECT 1 FROM {inner_sql} WHERE {own} = {outer}{extra})"
            if shape == 1:
                where = f" WHERE {extra[5:]}" if extra else ""
                return f"{outer} {self.pick('', 'NOT ')}IN (SELECT {own} FROM {inner_sql}{where})"
            value = self.value("i", inner, 1, 0.5)
            aggregate = self.pick("max", "min", "count")
            return (f"(SELECT {aggregate}({value}) FROM {inner_sql} WHERE {own} = {outer}{extra}) "
                    f"{self.pick('>', '<=', '=')} {self.expr('i', scope, 1)}")
        kind = self.kind(inner, "idt")
        value = self.value(kind, inner, 1, 0.5)
        return (f"{self.expr(kind, scope, 1)} {self.pick('>', '<', '<>')} "
                f"(SELECT {self.pick('max', 'min')}({value}) FROM {inner_sql}"
                + (f" WHERE {self.predicate_of_inner(inner)})" if self.chance(0.5) else ")"))

    def predicate_of_inner(self, scope):
        return self.expr("b", scope, self.pick(1, 2))

    # --- queries ---

    def where(self, scope):
        return f" WHERE {self.predicate(scope)}" if self.chance(0.7) else ""

    def kind(self, scope, kinds="iiittdfnbs"):
        """A type of which the scope has columns, mostly."""
        there = [kind for kind in kinds if scope.of(kind)]
        return self.random.choice(there if there and self.chance(0.95) else kinds)

    def select(self, depth, kinds=None, top=False):
        """(text, columns with their types, whether it may be ordered by all columns)."""
        if kinds is None and depth > 0:
            roll = self.random.random()
            if roll < 0.12:
                return self.set_operation(depth)
            if roll < 0.20:
                return self.common_table(depth)
        source, scope = self.relation(depth)
        where = self.where(scope)
        roll = self.random.random()
        if kinds is None and roll < 0.38:
            return self.grouped(source, scope, where, top)
        if kinds is None and roll < 0.52 and self.key(scope):
            return self.windowed(source, scope, where, top)
        if kinds is None and roll < 0.60 and not self.identifiers:
            return self.ranked(source, scope, where)
        if kinds is None:
            kinds = [self.kind(scope, "iiittdfnbs" + ("lv" if top else "")) for _ in range(self.pick(1, 2, 3, 4))]
        columns = [(f"c{index}", kind) for index, kind in enumerate(kinds)]
        shown = ", ".join(f"{self.value(kind, scope)} AS {name}" for name, kind in columns)
        distinct = "DISTINCT " if self.chance(0.2) and not {"l", "v"} & set(kinds) else ""
        return f"SELECT {distinct}{shown} FROM {source}{where}", columns, True

    def ranked(self, source, scope, where):
        """The first of each group, by an order that is total for what is shown."""
        kinds = [self.kind(scope, "iitdb") for _ in range(self.pick(2, 3))]
        columns = [(f"c{index}", kind) for index, kind in enumerate(kinds)]
        inner = ", ".join(f"{self.value(kind, scope, 1)} AS {name}" for name, kind in columns)
        name = self.alias()
        order = ", ".join(f"{column}{self.pick('', ' DESC', ' NULLS FIRST')}" for column, _ in columns)
        return (f"SELECT {', '.join(column for column, _ in columns)} FROM (SELECT *, row_number() OVER "
                f"(PARTITION BY c0 ORDER BY {order}) AS place FROM (SELECT {inner} FROM {source}{where})) AS {name} "
                f"WHERE place <= {self.pick(1, 3)}"), columns, True

    def grouped(self, source, scope, where, top):
        keys = [self.kind(scope, "itdb") for _ in range(self.pick(0, 1, 1, 2))]
        columns, shown, by = [], [], []
        for kind in keys:
            key = self.value(kind, scope, self.pick(0, 1, 1), 0.15)
            if key in by:
                continue
            if key in scope.of(kind) or key[0] == "(" or key.startswith(("CAST", "CASE", "left", "right", "upper", "lower")):
                name = f"c{len(columns)}"
                columns.append((name, kind))
                shown.append(f"{key} AS {name}")
                by.append(key)
        for _ in range(self.pick(1, 2, 3)):
            kind, text = self.aggregate(scope, top)
            name = f"c{len(columns)}"
            columns.append((name, kind))
            shown.append(f"{text} AS {name}")
        sql = f"SELECT {', '.join(shown)} FROM {source}{where}"
        if by:
            # Not over a literal of a subquery, by which ORDER BY is lost (`FOUND` has it).
            plain = scope.tables and all(key in [name for name, _ in scope.columns] for key in by)
            rollup = plain and len(by) > 1 and self.chance(0.5)
            sql += f" GROUP BY {'ROLLUP (' if rollup else ''}{', '.join(by)}{')' if rollup else ''}"
            if self.chance(0.35):
                exact = self.aggregate(scope, False, "i")[1]
                sql += f" HAVING {exact} {self.pick('>', '<', '<>')} {self.literal('i')}"
        return sql, columns, True

    def aggregate(self, scope, top, kind=None):
        kind = kind or ("F" if top and self.chance(0.15) else self.kind(scope, "iiitdnb"))
        filtered = f" FILTER (WHERE {self.expr('b', scope, 1)})" if self.chance(0.15) else ""
        ids = scope.of("id")
        if kind == "i":
            text = self.pick(
                "count(*)", f"count({self.value(self.kind(scope), scope, 1)})", f"sum({self.value('i', scope, 1)})",
                f"count(DISTINCT {self.random.choice(ids) if ids else self.value('i', scope, 1)})",
                f"max({self.value('i', scope, 1)})", f"min({self.value('i', scope, 1)})",
                f"bit_xor({self.value('i', scope, 1)})")
        elif kind == "F":
            text = self.pick(
                f"sum({self.value('f', scope, 1)})", f"avg({self.value('f', scope, 1)})",
                f"avg({self.value('n', scope, 1)})", f"stddev({self.leaf('n', scope)})",
                f"median({self.leaf('i', scope)})")
        elif kind == "t" and self.chance(0.3):
            value = self.value("t", scope, 1)
            text = f"string_agg({value}, '|' ORDER BY {value})"
        elif kind == "b":
            text = f"{self.pick('bool_and', 'bool_or')}({self.value('b', scope, 1)})"
        elif kind == "n":
            text = f"{self.pick('max', 'min', 'sum')}({self.value('n', scope, 1)})"
        else:
            text = f"{self.pick('max', 'min')}({self.value(kind, scope, 1)})"
        return kind, text + filtered

    def windowed(self, source, scope, where, top):
        key = self.key(scope)
        partition = f"PARTITION BY {self.expr(self.kind(scope, 'itd'), scope, 1)} " if self.chance(0.7) else ""
        order = f"ORDER BY {self.value(self.kind(scope, 'itd'), scope, 1, 0.2)}, {key}"
        kind = self.kind(scope, "itd")
        frame = self.pick("", "ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
                          "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING")
        calls = [
            ("i", "CAST(row_number()", ""), ("i", "CAST(rank()", ""), ("i", "CAST(ntile(4)", ""),
            (kind, f"lag({self.value(kind, scope, 1)})", None), (kind, f"lead({self.value(kind, scope, 1)}, 2)", None),
            (kind, f"first_value({self.value(kind, scope, 1)})", None),
            ("i", f"sum({self.value('i', scope, 1)})", frame), ("i", "count(*)", frame),
            ("i", f"max({self.value('i', scope, 1)})", frame),
        ]
        columns, shown = [("c0", "t" if key.endswith(".icd") else "i")], [f"{key} AS c0"]
        for found, call, over in self.random.sample(calls, 2):
            name = f"c{len(columns)}"
            window = f"OVER ({partition}{order}{' ' + over if over else ''})"
            cast = call.startswith("CAST(")
            shown.append(f"{call} {window}{' AS BIGINT)' if cast else ''} AS {name}")
            columns.append((name, found))
        return f"SELECT {', '.join(shown)} FROM {source}{where}", columns, True

    def set_operation(self, depth):
        kinds = [self.pick(*"iiittdfnbs") for _ in range(self.pick(1, 2, 3))]
        left, columns, _ = self.select(0, kinds)
        right, _, _ = self.select(0, kinds)
        verb = self.pick("UNION ALL", "UNION", "INTERSECT", "EXCEPT")
        return f"{left} {verb} {right}", columns, True

    def common_table(self, depth):
        inner, columns, _ = self.select(depth - 1)
        name = self.alias()
        one, two = self.alias(), self.alias()
        columns = [(column, kind) for column, kind in columns if kind != "F"]
        if not columns:
            return inner, columns or [("c0", "F")], False
        scope = Scope([(f"{one}.{column}", kind) for column, kind in columns])
        if self.chance(0.5):
            sql, shown, fine = self.grouped(f"{name} AS {one}", scope, self.where(scope), False)
            return f"WITH {name} AS ({inner}) {sql}", shown, fine
        column = columns[0][0]
        return (f"WITH {name} AS ({inner}) SELECT count(*) AS c0, count(DISTINCT {one}.{column}) AS c1 "
                f"FROM {name} AS {one} {self.pick('LEFT', 'INNER')} JOIN (SELECT DISTINCT {column} FROM {name}) AS {two} "
                f"ON {one}.{column} = {two}.{column}"), [("c0", "i"), ("c1", "i")], True

    def query(self):
        if self.chance(0.02):
            return self.refused()
        sql, columns, orderable = self.select(self.pick(0, 1, 1, 2), top=True)
        kinds = {kind for _, kind in columns}
        ordered = False
        if orderable and not kinds & {"F", "l", "v", "id"} and self.chance(0.4):
            places = list(range(1, len(columns) + 1))
            self.random.shuffle(places)
            order = ", ".join(f"{place}{self.pick('', ' DESC', ' NULLS FIRST')}" for place in places)
            sql = f"{sql} ORDER BY {order}"
            ordered = True
            if self.chance(0.5) and self.placed != "mine":
                sql += f" LIMIT {self.pick(0, 1, 10, 500)}" + self.pick("", "", " OFFSET 5")
        if self.chance(0.03):
            sql, ordered = f"EXPLAIN {sql}", True
        return Query(sql, ordered, self.placed == "mine", self.placed == "trap")

    def refused(self):
        """What is not granted must read like what does not exist."""
        table = self.pick(*TABLES)
        column = self.pick(*ABSENT[table])
        sql = self.pick(
            f"SELECT {column} FROM {table}", f"SELECT count(*) FROM {table} WHERE CAST({column} AS INT) > 0",
            "SELECT count(*) FROM sealed", "SELECT 1 WHERE EXISTS (SELECT 1 FROM sealed)",
            f"SELECT count(*) FROM {table} GROUP BY {column}", "DELETE FROM sealed",
            f"SELECT count(*) FROM {table} WHERE secret = 'KANARI-1'", "DESCRIBE sealed", f"DESCRIBE {table}")
        return Query(sql, True, False, False)


def generate(seed, identifiers=False):
    return Generator(seed, identifiers).query()
