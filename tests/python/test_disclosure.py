"""Attacks on disclosure over the wire: aggregates that are put together, pseudonyms that are guessed.

Each attack is first made where nothing protects (`rows` or `raw` on the same files): there it must
find what it looks for, or it says nothing where it does not. Which line of attack is tried where is
listed in `docs/attacks.md`.
"""

import collections
import random

import pyarrow as pa
import pytest

from attack_hub import number, refusal, rows, same_but, serve_attacked
from flight_client import Client
from test_differential import PERSONS, connect, issue_token

# Of so many targets an attack may be right by chance about as often as a guess is.
TARGETS = 12
# Rows that are bound at once.
BOUND_MAX = 10_000


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    running = serve_attacked(tmp_path_factory.mktemp("disclosure"))
    yield running
    running.stop()
    complaints = [line for line in running.log.read_text().splitlines() if " ERROR " in line]
    assert not complaints, "the server complained:\n" + "\n".join(complaints[:20])


@pytest.fixture(scope="module")
def targets(hub):
    """Conditions that hold for one person each, made of what others may know of them, and the
    number of their stays; those with most stays first."""
    stays = collections.Counter(hub.tables["stays"]["pid"].to_pylist())
    people = [row for row in hub.tables["persons"].select(["pid", "born", "commune", "name"]).to_pylist()
              if all(row.values()) and "'" not in row["name"]]
    known = collections.Counter((row["born"], row["commune"]) for row in people)
    alone = [row for row in people if known[row["born"], row["commune"]] == 1]
    # One of those without a date or commune may be like them: both are asked for.
    alone.sort(key=lambda row: -stays[row["pid"]])
    found = [(f"p.born = DATE '{row['born']}' AND p.commune = '{row['commune']}'", stays[row["pid"]])
             for row in alone[:TARGETS]]
    for condition, count in found:
        assert number(hub, "rows", f"SELECT count(*) FROM persons p WHERE {condition}") == 1 < count
    return found


def inverted(condition):
    return f"({condition}) IS NOT TRUE"


# --- two answers that differ by one person ---

def guesses(hub, targets, project, attack):
    """What an attack finds of each target, and what is true of it."""
    return [(attack(project, condition), stays) for condition, stays in targets]


def check_useless(hub, targets, attack, truth):
    """Exact where nothing protects; where aggregates alone are seen, right no oftener than noise is."""
    assert all(found == truth(stays) for found, stays in guesses(hub, targets, "rows", attack)), "no attack"
    seen = guesses(hub, targets, "counts", attack)
    right = sum(found is not None and round(found) == truth(stays) for found, stays in seen)
    assert right <= TARGETS * 0.6, seen
    assert len({found for found, _ in seen}) > 2 or all(found is None for found, _ in seen), seen


def test_two_counts_that_differ_by_one_person(hub, targets):
    def attack(project, condition):
        with_them = number(hub, project, "SELECT count(DISTINCT p.pid) FROM persons p")
        return with_them - number(hub, project, f"SELECT count(DISTINCT p.pid) FROM persons p WHERE {inverted(condition)}")

    check_useless(hub, targets, attack, lambda stays: 1)


def test_overlapping_filters(hub, targets):
    """|A| + |B| − |A ∪ B| is |A ∩ B|, which is one person."""
    def attack(project, condition):
        a, b = condition.split(" AND ")
        a, b = f"({a} OR p.birth_year < 1950)", f"({b} AND p.birth_year >= 1950 OR {condition})"
        one, two, either = (number(hub, project, f"SELECT count(DISTINCT p.pid) FROM persons p WHERE {filter}")
                            for filter in (a, b, f"{a} OR {b}"))
        assert min(one, two, either) > 100
        return one + two - either

    overlap = [number(hub, "rows", f"SELECT count(*) FROM persons p WHERE ({a} OR p.birth_year < 1950) AND "
                                   f"({b} AND p.birth_year >= 1950 OR {a} AND {b})")
               for a, b in (condition.split(" AND ") for condition, _ in targets)]
    assert max(overlap) == 1, "others are in the overlap, too"
    check_useless(hub, targets, attack, lambda stays: 1)


def test_complements(hub, targets):
    """What a whole has more than a group and its complement, for groups that one person joins."""
    def attack(project, condition):
        young = "p.birth_year > 1990"
        group = f"(({young}) OR ({condition}))"
        inside = number(hub, project, f"SELECT count(*) FROM persons p WHERE {group}")
        outside = number(hub, project, f"SELECT count(*) FROM persons p WHERE {inverted(young)}")
        return inside + outside - number(hub, project, "SELECT count(*) FROM persons p")

    older = [(condition, stays) for condition, stays in targets if int(condition[15:19]) <= 1990]
    assert len(older) >= 5
    assert all(found == 1 for found, _ in guesses(hub, older, "rows", attack)), "no attack"
    seen = [found for found, _ in guesses(hub, older, "counts", attack)]
    assert sum(found == 1 for found in seen) <= 0.6 * len(seen) + 1, seen


def test_a_self_join_does_not_make_a_person_heavier_than_the_noise(hub, targets):
    """Rows that are multiplied by themselves: somebody with many stays counts for their square. More is
    refused."""
    def attack(project, condition):
        joined = "SELECT count(*) FROM stays a JOIN stays b ON a.pid = b.pid JOIN persons p ON p.pid = a.pid"
        return number(hub, project, joined) - number(hub, project, f"{joined} WHERE {inverted(condition)}")

    check_useless(hub, targets, attack, lambda stays: stays ** 2)
    # Nor do they show by the size of the difference: by chance it varies more than by who it is. (What
    # all of them share, the noise of the whole, tells of nobody.)
    seen = guesses(hub, targets, "counts", attack)
    found = [found for found, _ in seen]
    assert max(found) - min(found) > max(stays for _, stays in seen) ** 2, seen
    cube = "SELECT count(*) FROM stays a JOIN stays b ON a.pid = b.pid JOIN stays c ON c.pid = a.pid"
    assert "may meet several of each other in 1 join" in refusal(hub, "counts", cube).text


@pytest.mark.parametrize("measure", [
    "sum(CASE WHEN {0} THEN 1 ELSE 0 END)", "count(*) FILTER (WHERE {0})", "count(CASE WHEN {0} THEN 1 END)",
    "sum(CASE WHEN {0} THEN 1000000 ELSE 1 END) - count(*)", "avg(CASE WHEN {0} THEN 5000.0 ELSE 0.0 END)",
    "sum(CASE WHEN {0} THEN p.birth_year ELSE 0 END)",
])
def test_trackers(hub, targets, measure):
    """A sum that only the target weighs in."""
    for condition, _ in targets[:4]:
        text = "SELECT {} AS v FROM persons p"
        shown = number(hub, "rows", text.format(measure.format(condition)))
        nobody = number(hub, "rows", text.format(measure.format("p.born = DATE '1800-01-01'")))
        assert shown > nobody, "no attack"
        seen = number(hub, "counts", text.format(measure.format(condition)))
        # Suppressed, or of the size that it has without anybody.
        assert seen is None or abs(seen - nobody) < (shown - nobody) / 100, (seen, nobody, shown)


# --- groups ---

@pytest.mark.parametrize("key", [
    "born, commune, name", "weight", "income", "born", "upper(name), born, sex", "score",
])
def test_grouping_by_what_is_unique(hub, key):
    sql = f"SELECT {key}, count(*) AS n, count(DISTINCT pid) AS persons FROM persons GROUP BY {key}"
    truth = rows(hub, "rows", sql)
    assert sum(row["persons"] == 1 for row in truth) > 100, "no attack"
    small = {str([value for name, value in row.items() if name not in ("n", "persons")])
             for row in truth if row["persons"] < 11}
    for row in rows(hub, "counts", sql):
        if row["n"] is not None:
            cell = str([value for name, value in row.items() if name not in ("n", "persons")])
            assert cell not in small, row


@pytest.mark.parametrize("sql", [
    "SELECT pid, count(*) FROM persons GROUP BY pid", "SELECT stay_id, count(*) FROM stays GROUP BY stay_id",
    "SELECT count(*) FROM stays GROUP BY ROLLUP (pid)", "SELECT DISTINCT pid FROM persons",
    "SELECT count(*) OVER (PARTITION BY pid) FROM stays", "SELECT pid FROM persons UNION SELECT pid FROM stays",
    "SELECT count(*) FROM stays GROUP BY GROUPING SETS ((pid), ())", "SELECT upper(pid), count(*) FROM persons GROUP BY 1",
])
def test_grouping_by_identifiers(hub, sql):
    assert len(rows(hub, "rows", sql)) > PERSONS * 0.9, "no attack"
    told = refusal(hub, "counts", sql)
    assert told.code in ("invalid argument", "unauthorized"), told


# What shows a value of somebody in a group of few.
SINGLE = [
    "min(n)", "max(n)", "median(n)", "array_agg(n)", "first_value(n)", "last_value(n ORDER BY n)", "nth_value(n, 1)",
    "approx_median(n)", "approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY n)", "approx_distinct(n)", "bit_and(n)",
    "bit_or(n)", "bit_xor(n)", "bool_and(flag)", "bool_or(flag)", "stddev(n)", "var(n)", "corr(n, big)", "covar_samp(n, big)",
    "regr_slope(n, big)", "string_agg(code, ',')", "count(DISTINCT n)", "sum(DISTINCT n)", "avg(DISTINCT n)",
    "min(pid)", "max(entered)", "array_agg(DISTINCT code)", "percentile_cont(0.5) WITHIN GROUP (ORDER BY n)",
]


@pytest.mark.parametrize("aggregate", SINGLE)
def test_aggregates_that_show_one_value_are_not_there(hub, aggregate):
    tiny = hub.tables["stays"]["stay_id"][77].as_py()
    for sql in (f"SELECT {aggregate} AS v FROM stays WHERE stay_id <= {tiny} AND stay_id > {tiny - 60}",
                f"SELECT unit, {aggregate} AS v FROM stays GROUP BY unit",
                f"SELECT count(*) AS n FROM stays GROUP BY unit HAVING {aggregate} IS NOT NULL"):
        assert rows(hub, "rows", sql), "no attack"
        told = refusal(hub, "counts", sql)
        assert told.code == "invalid argument" and not any(digit in told.text for digit in ("KANARI", "-120")), told


def test_what_groups_leave_of_the_whole(hub):
    """The whole less the groups that are shown is what the small ones hold."""
    exact = 0
    cases = ["birth_year", "born", "substr(commune, 2)", "name", "code", "CASE WHEN birth_year > 2012 THEN code ELSE 'x' END"]
    for key in cases:
        grouped = f"SELECT {key} AS k, count(*) AS n FROM persons GROUP BY 1"
        truth = {row["k"]: row["n"] for row in rows(hub, "rows", grouped)}
        whole = number(hub, "rows", "SELECT count(*) FROM persons")
        assert whole == sum(truth.values())
        seen = rows(hub, "counts", grouped)
        shown = [row for row in seen if row["n"] is not None]
        left = number(hub, "counts", "SELECT count(*) FROM persons") - sum(row["n"] for row in shown)
        hidden = whole - sum(truth[row["k"]] for row in shown)
        exact += left == hidden
        # One row for all that is not shown, whatever it holds.
        assert sum(row["n"] is None for row in seen) == 1
    assert exact <= len(cases) // 2, f"{exact} remainders are exact"


# --- asking again ---

def spellings(condition):
    """The same persons in other words."""
    return [
        f"SELECT count(DISTINCT p.pid) FROM persons p WHERE {text}" for text in [
            condition, f"{condition} AND 1 = 1", f"NOT (NOT ({condition}))", f"({condition}) IS TRUE", f"true AND ({condition})",
            f"CASE WHEN {condition} THEN true ELSE false END", f"({condition}) OR ({condition})",
            f"({condition}) AND p.birth_year > -{random.randrange(10**6)}", f"({condition}) AND p.name <> 'x{random.random()}'",
        ]] + [
        f"SELECT count(DISTINCT p.pid) FILTER (WHERE {condition}) FROM persons p",
        f"SELECT count(*) FROM persons p WHERE {condition}",
        f"SELECT sum(1) FROM persons p WHERE {condition}",
        f"SELECT count(DISTINCT p.pid) FROM persons p JOIN persons q ON p.pid = q.pid WHERE {condition}",
        f"SELECT count(*) FROM (SELECT p.pid FROM persons p WHERE {condition} GROUP BY p.pid)",
        f"SELECT n FROM (SELECT count(DISTINCT p.pid) AS n FROM persons p WHERE {condition}) WHERE n > {-random.random()}",
        f"WITH c AS (SELECT p.pid FROM persons p WHERE {condition}) SELECT count(*) FROM c",
    ]


ASKED = ["p.birth_year < 1950", "p.commune = '75056'", "p.sex = 1 AND p.birth_year = 1960 OR p.birth_year > 2000",
         "p.grade = 2", "p.name LIKE 'Z%'", "p.income > 50000"]


def test_asking_again_in_other_words_averages_nothing_away(hub):
    off = 0
    for condition in ASKED:
        truth = {number(hub, "rows", sql) for sql in spellings(condition)}
        assert len(truth) == 1, "not the same question"
        seen = {number(hub, "counts", sql) for sql in spellings(condition)}
        assert len(seen) == 1, (condition, seen)
        off += seen != truth
    # There is something to average: noise that was drawn anew would vanish in the mean. That of a
    # count rounds to none in 22 cells of 100, whose persons have new keys in each run: in all of them
    # once in 9,000 runs.
    assert off >= 1


def test_accounts_and_projects_that_collude_get_the_same_noise(hub):
    bob = Client(hub, issue_token(hub.config, "bob", "counts"))
    off = 0
    for condition in ASKED:
        sql = f"SELECT count(DISTINCT p.pid) AS n, sum(p.birth_year) AS s, avg(p.weight) AS a FROM persons p WHERE {condition}"
        answers = [rows(hub, "counts", sql), rows(hub, "counts_too", sql), bob.run(sql).table.to_pylist()]
        assert answers[0] == answers[1] == answers[2]
        # A count alone has none in 22 cells of 100.
        off += answers[0] != rows(hub, "rows", sql)
    assert off == len(ASKED), "no noise to average"
    bob.close()


# --- pseudonyms ---

def pseudonyms(hub, project, table="persons"):
    return hub.clients[project].run(f"SELECT pid FROM {table} ORDER BY pid").table["pid"].to_pylist()


def upload(hub, project, name, values):
    """A table of candidates in the project's space, brought by a prepared statement."""
    with connect(hub, project) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE space.{name} (candidate VARCHAR)")
        cursor.adbc_prepare(f"INSERT INTO space.{name} VALUES (?)")
        for first in range(0, len(values), BOUND_MAX):
            part = [str(value) for value in values[first:first + BOUND_MAX]]
            cursor.adbc_statement.bind(pa.record_batch({"candidate": pa.array(part)}))
            cursor.adbc_statement.execute_update()


@pytest.fixture(scope="module")
def dictionary(hub):
    """Every identifier that there can be; one in seven is there. Uploaded to projects of rows."""
    values = list(range(1_000_000, 1_000_000 + PERSONS * 7))
    for project in ("raw", "rows"):
        upload(hub, project, "candidates", values)
    upload(hub, "rows", "theirs", pseudonyms(hub, "rows_too"))
    upload(hub, "rows", "mine", pseudonyms(hub, "rows"))
    return values


def test_pseudonyms_of_two_projects_do_not_join(hub, dictionary):
    mine, theirs = pseudonyms(hub, "rows"), pseudonyms(hub, "rows_too")
    assert len(set(mine)) == len(set(theirs)) == PERSONS
    assert not set(mine) & set(theirs)
    # The same account in both, who carries them over.
    joined = "SELECT count(*) FROM persons p JOIN space.{} c ON c.candidate = p.pid"
    assert number(hub, "rows", joined.format("mine")) == PERSONS, "no attack"
    assert number(hub, "rows", joined.format("theirs")) == 0
    # Nor by the place that they sort to.
    order = {project: hub.clients[project].run("SELECT born, name, weight, pid FROM persons").table.to_pylist()
             for project in ("rows", "rows_too")}
    places = []
    for found in order.values():
        found.sort(key=lambda row: row["pid"])
        places.append({(row["born"], row["name"], row["weight"]): place for place, row in enumerate(found)})
    common = [key for key in places[0] if key in places[1]]
    close = sum(abs(places[0][key] - places[1][key]) < PERSONS // 100 for key in common)
    assert len(common) > PERSONS // 2 and close < len(common) * 0.05, close


DOORS = {
    "join": "SELECT count(*) FROM persons p JOIN space.candidates c ON c.candidate = {0}",
    "join the other way": "SELECT count(*) FROM space.candidates c JOIN persons p ON {0} = c.candidate",
    "left join": "SELECT count({0}) FROM space.candidates c LEFT JOIN persons p ON {0} = c.candidate",
    "in": "SELECT count(*) FROM persons p WHERE {0} IN (SELECT candidate FROM space.candidates)",
    "exists": "SELECT count(*) FROM space.candidates c WHERE EXISTS (SELECT 1 FROM persons p WHERE {0} = c.candidate)",
    "intersect": "SELECT count(*) FROM (SELECT {0} FROM persons p INTERSECT SELECT candidate FROM space.candidates)",
    "path": "SELECT count(*) FROM stays p WHERE {0} IN (SELECT candidate FROM space.candidates)",
    "correlated": "SELECT sum(n) FROM (SELECT (SELECT count(*) FROM persons p WHERE {0} = c.candidate) AS n "
                  "FROM space.candidates c WHERE c.candidate < '1001000')",
    "scalar": "SELECT count(*) FROM persons p WHERE {0} = (SELECT min(candidate) FROM space.candidates)",
    "list": "SELECT count(*) FROM persons p WHERE {0} IN ({1})",
    "equal": "SELECT count(*) FROM persons p WHERE {0} = '{2}'",
    "not distinct": "SELECT count(*) FROM persons p WHERE {0} IS NOT DISTINCT FROM '{2}'",
    "swapped": "SELECT count(*) FROM persons p WHERE '{2}' = {0}",
    "like": "SELECT count(*) FROM persons p WHERE {0} LIKE '{2}'",
    "between": "SELECT count(*) FROM persons p WHERE {0} BETWEEN '{2}' AND '{2}'",
    "case": "SELECT sum(CASE {0} WHEN '{2}' THEN 1 ELSE 0 END) FROM persons p",
    "array": "SELECT count(*) FROM persons p WHERE array_has(make_array('{2}', '{2}'), {0})",
}


@pytest.mark.parametrize("door", DOORS)
def test_a_dictionary_of_identifiers_finds_nobody(hub, dictionary, door):
    raw_ids = [str(value) for value in hub.tables["persons"]["pid"].to_pylist()]

    def found(project, column):
        sql = DOORS[door].format(column, ", ".join(f"'{value}'" for value in raw_ids), raw_ids[0])
        return number(hub, project, sql)

    assert found("raw", "CAST(p.pid AS VARCHAR)") > 0, "no attack"
    assert found("rows", "p.pid") == 0


@pytest.mark.parametrize("condition", [
    "{0} = '{1}'", "{0} = {1}", "CAST({0} AS BIGINT) = {1}", "{0} IN ('{1}', 'x')", "{0} >= '{1}'", "{0} <> '{1}'",
    "try_cast({0} AS BIGINT) = {1}", "{0} = CAST({1} AS VARCHAR)", "{0} = arrow_cast('{1}', 'Utf8View')",
    "{0} = arrow_cast({1}, 'Int64')", "{0} LIKE '{1}%'", "CAST({0} AS DECIMAL(20,0)) = {1}", "starts_with({0}, '{1}')",
])
@pytest.mark.parametrize("table", ["persons", "stays"])
def test_no_answer_tells_that_an_identifier_exists(hub, table, condition):
    """One that is there, one that is not, and one that nobody can have."""
    exists = hub.tables["stays"]["pid"][4321].as_py()
    shown = pseudonyms(hub, "rows")

    def told(project, column, value):
        outcome = hub.clients[project].run(f"SELECT count(*) AS n FROM {table} WHERE {condition.format(column, value)}")
        # Which pseudonym fails to be a number is the first that a thread comes by.
        return same_but(outcome.text, value, *shown) if outcome.failed else outcome.table.to_pylist()

    assert told("raw", "CAST(pid AS VARCHAR)", exists) != told("raw", "CAST(pid AS VARCHAR)", exists + 3), "no attack"
    assert told("rows", "pid", exists) == told("rows", "pid", exists + 3) == told("rows", "pid", 1_111_111)


def test_bound_identifiers_find_nobody(hub):
    """Values that are bound to a prepared statement, as text and as numbers, one and many."""
    exists = hub.tables["persons"]["pid"][4321].as_py()

    def bound(project, value, sql="SELECT count(*) AS n FROM persons WHERE pid = ?"):
        with connect(hub, project) as connection, connection.cursor() as cursor:
            try:
                cursor.execute(sql, (value,))
                return cursor.fetch_arrow_table()["n"].to_pylist()
            except Exception as error:  # noqa: BLE001 - the driver's
                return same_but(str(error), value, *pseudonyms(hub, project))

    assert bound("raw", exists) == [1] != bound("raw", exists + 3) == [0], "no attack"
    for make in (int, str, float):
        assert bound("rows", make(exists)) == bound("rows", make(exists + 3)), make
    assert bound("rows", str(exists)) == [0]
    assert bound("rows", pseudonyms(hub, "rows")[17]) == [1]


def test_no_plan_shows_what_a_pseudonym_stands_for(hub):
    """Below the barrier a literal pseudonym becomes the stored identifier."""
    for pseudonym in pseudonyms(hub, "rows")[:50:5]:
        sql = f"SELECT born, name, weight FROM persons WHERE pid = '{pseudonym}'"
        (seen,) = rows(hub, "rows", sql)
        raw = [row for row in rows(hub, "raw", "SELECT pid, born, name, weight FROM persons")
               if {key: row[key] for key in seen} == seen][0]["pid"]
        assert str(raw) in str(rows(hub, "raw", f"EXPLAIN SELECT * FROM persons WHERE pid = {raw}")), "no attack"
        for form in ("EXPLAIN", "EXPLAIN FORMAT TREE", "EXPLAIN FORMAT PGJSON"):
            outcome = hub.clients["rows"].run(f"{form} {sql}")
            assert str(raw) not in (outcome.text if outcome.failed else str(outcome.table.to_pylist()))


def test_pseudonyms_are_texts_without_order_or_structure(hub):
    """Neighbours in the file are no neighbours as pseudonyms, and no character tells of the number."""
    raw = rows(hub, "raw", "SELECT pid, born, name, weight FROM persons")
    shown = rows(hub, "rows", "SELECT pid, born, name, weight FROM persons")
    known = collections.Counter((row["born"], row["name"], row["weight"]) for row in raw)
    of = {(row["born"], row["name"], row["weight"]): row["pid"] for row in raw}
    pairs = [(of[key], row["pid"]) for row in shown
             if known[key := (row["born"], row["name"], row["weight"])] == 1]
    assert len(pairs) > PERSONS // 2
    pairs.sort()
    ascending = sum(one[1] < two[1] for one, two in zip(pairs, pairs[1:])) / len(pairs)
    assert 0.45 < ascending < 0.55, ascending
    assert not any(str(raw_id) in pseudonym for raw_id, pseudonym in pairs)
    # No function of SQL makes one of the other.
    target, pseudonym = pairs[0]
    for function in ("md5", "sha224", "sha256", "sha384", "sha512"):
        sql = f"SELECT count(*) FROM persons WHERE pid = encode(arrow_cast({function}('{target}'), 'Binary'), 'hex')"
        outcome = hub.clients["rows"].run(sql)
        assert outcome.failed or outcome.table.column(0).to_pylist() == [0]
