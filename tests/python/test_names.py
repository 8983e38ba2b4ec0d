"""Names: unquoted ones whatever their case, quoted ones as they are, accents in both, and nothing of
what is hidden."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import start
from test_policies import admin
from flight_client import Client

CONFIG = """
[server]
flight = "127.0.0.1:0"
http = "127.0.0.1:0"
zone = "inside"

[workers]
listen = "127.0.0.1:0"

[[dataset]]
name = "clinic"
producer = "tests"
folder = "clinic"

[[dataset.table]]
name = "stays"
location = "stays"
person = { column = "Patient" }

[[dataset.table]]
name = "secrets"
location = "stays"
person = { column = "Patient" }

[[person]]
id = "alice"

[[project]]
id = "study"
members = ["alice"]
valid_from = "2000-01-01"
valid_to = "2999-01-01"

[[habilitation]]
project = "study"
dataset = "clinic"
decision = "tests"
valid_from = "2000-01-01"
valid_to = "2999-01-01"
tables.only = [ { table = "stays", columns = { except = ["Hidden", "AGE"] } } ]
"""


@pytest.fixture(scope="module")
def alice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    (folder / "clinic" / "stays").mkdir(parents=True)
    stays = pa.table({"Patient": [1, 2, 3], "Age": [30, 40, 50], "AGE": [-1, -2, -3], "Unité": ["é", "à", "É"],
                      "Hidden": ["x"] * 3, "ward": ["a", "b", "b"]})
    pq.write_table(stays, folder / "clinic" / "stays" / "part.parquet")
    config = folder / "hub.toml"
    config.write_text(CONFIG)
    hub = start(["serve", "--config", str(config)], folder, folder / "serve.log")
    said = admin(config, "token", "create", "--person", "alice", "--project", "study", "--days", "2")
    hub.token = next(word for word in said.split() if word.startswith("hubpat_"))
    yield hub
    hub.stop()


def rows(hub, sql, parameters=None):
    with hub.connect("alice", password=hub.token) as connection, connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return [tuple(row.values()) for row in cursor.fetch_arrow_table().to_pylist()]


@pytest.mark.parametrize("sql, expected", [
    # `AGE` is hidden, so that there is one column `Age` only.
    ("SELECT Age FROM clinic.stays ORDER BY age", [(30,), (40,), (50,)]),
    ("SELECT max(AGE) FROM Clinic.STAYS WHERE age < 50", [(40,)]),
    ('SELECT "Age" FROM clinic."stays" WHERE "Unité" = \'É\'', [(50,)]),
    ("SELECT s.age, S.UNITÉ FROM clinic.Stays AS s WHERE S.Unité LIKE 'é%'", [(30, "é")]),
    ("SELECT stays.age FROM clinic.stays WHERE stays.WARD = 'a'", [(30,)]),
    ("SELECT ward, sum(age) AS total FROM stays GROUP BY ward HAVING sum(Age) > 30 ORDER BY TOTAL", [("b", 90)]),
    ("SELECT a.age FROM stays a JOIN stays b USING (PATIENT) ORDER BY 1 LIMIT 1", [(30,)]),
    ("SELECT * EXCLUDE (patient, unité, ward) FROM stays ORDER BY 1", [(30,), (40,), (50,)]),
    ("WITH c AS (SELECT * FROM stays) SELECT c.unité FROM c WHERE c.AGE = 30", [("é",)]),
    ("SELECT q.âge FROM (SELECT age AS Âge FROM stays) q ORDER BY 1 LIMIT 1", [(30,)]),
    ("SELECT age::INT FROM stays WHERE age < 50 ORDER BY age DESC", [(40,), (30,)]),
    ("SELECT max(age) AS age FROM stays GROUP BY ward ORDER BY age", [(30,), (50,)]),
    ("SELECT upper(unité), lower('ÉTÉ'), unité ILIKE 'é' FROM stays WHERE age = 50", [("É", "été", True)]),
    ("SELECT count(*) FROM stays WHERE unité ~ '[éÉ]'", [(2,)]),
])
def test_names_are_found_whatever_their_case(alice, sql, expected):
    assert rows(alice, sql) == expected


def test_parameters_and_changes_find_them_too(alice):
    assert rows(alice, "SELECT age FROM stays WHERE UNITÉ = ? AND Age > ?", ("à", 1)) == [(40,)]
    frame = pa.table({"Id": [1, 2], "Né_le": ["a", "b"], "Prix": [1.5, 2.5]})
    with alice.connect("alice", password=alice.token) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("Été 2024", frame, mode="replace", db_schema_name="space")
        cursor.adbc_ingest("Cohorte", frame, mode="replace", db_schema_name="space")
        cursor.execute("INSERT INTO space.COHORTE (id, NÉ_LE, prix) VALUES (3, 'c', 3.5)")
        cursor.execute("UPDATE space.cohorte SET prix = prix + 1 WHERE NÉ_le = 'c'")
        cursor.execute("DELETE FROM space.Cohorte WHERE ID = 1")
        cursor.execute("CREATE VIEW space.vue AS SELECT id, né_le FROM space.cohorte")
        cursor.execute("SELECT v.ID, c.prix FROM space.VUE v JOIN space.cohorte c ON v.id = c.id ORDER BY 1")
        assert cursor.fetchall() == [(2, 2.5), (3, 4.5)]
        cursor.execute('SELECT count(*) FROM space."Été 2024"')
        assert cursor.fetchone() == (2,)
        names = [table["table_name"] for catalog in connection.adbc_get_objects(
            depth="tables", db_schema_filter="space", table_name_filter="%é 2%").read_all().to_pylist()
            for schema in catalog["catalog_db_schemas"] for table in schema["db_schema_tables"]]
        assert names == ["Été 2024"]
        cursor.execute("DROP VIEW space.vue")
        cursor.execute("DROP TABLE space.cohorte")
        cursor.execute('DROP TABLE space."Été 2024"')


def test_what_is_dropped_if_it_is_there_has_the_name_that_is_written(alice):
    """Scripts begin so, where theirs is not there yet and another of other letters is."""
    with alice.connect("alice", password=alice.token) as connection, connection.cursor() as cursor:
        cursor.execute('CREATE TABLE space."Cohort" AS SELECT 1 AS a')
        for name in ("cohort", "space.cohort", "COHORT", "Cohort", 'space."COHORT"'):
            cursor.execute(f"DROP TABLE IF EXISTS {name}")
            cursor.execute("SELECT a FROM space.cohort")
            assert cursor.fetchall() == [(1,)], name
        cursor.execute("CREATE TABLE space.cohort AS SELECT 2 AS a")
        cursor.execute("DROP TABLE IF EXISTS COHORT")
        cursor.execute("SELECT a FROM space.cohort")
        assert cursor.fetchall() == [(1,)]
        cursor.execute('DROP TABLE IF EXISTS "Cohort"')
        assert Client(alice, alice.token).run("SELECT a FROM space.cohort").failed


def test_columns_of_made_rows_are_no_other_columns(alice):
    """`value` is a column of the series, not `Value` of the table around."""
    with alice.connect("alice", password=alice.token) as connection, connection.cursor() as cursor:
        frame = pa.table({"id": [1, 9], "Value": [9, 9], "Column1": [9, 9], "Table_name": ["?", "?"]})
        cursor.adbc_ingest("measured", frame, mode="replace", db_schema_name="space")
        for made in ("SELECT value FROM generate_series(1, 3)", "SELECT column1 FROM (VALUES (1), (2)) v",
                     "SELECT length(table_name) - 4 FROM information_schema.tables WHERE table_name = 'stays'"):
            cursor.execute(f"SELECT id, value FROM space.measured WHERE id IN ({made})")
            assert cursor.fetchall() == [(1, 9)], made
        cursor.execute("DROP TABLE space.measured")


def test_quoted_names_are_exact_and_two_spellings_are_none(alice):
    client = Client(alice, alice.token)
    for sql in ('SELECT "age" FROM stays', 'SELECT 1 FROM "STAYS"', 'SELECT s."unité" FROM stays s'):
        assert client.run(sql).failed, sql
    with alice.connect("alice", password=alice.token) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("two", pa.table({"Cost": [1], "COST": [2]}), mode="replace", db_schema_name="space")
    refused = client.run("SELECT cost FROM space.two")
    assert refused.failed and "column `cost` does not exist; there are Cost, COST" in refused.text
    assert client.run('SELECT "Cost", "COST" FROM space.two').table.to_pylist() == [{"Cost": 1, "COST": 2}]
    with alice.connect("alice", password=alice.token) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE space.two")


@pytest.mark.parametrize("form", [
    "SELECT {} FROM stays", "SELECT s.{} FROM stays s", "SELECT 1 FROM stays ORDER BY {}", "SELECT max({}) FROM stays",
    "SELECT 1 FROM stays a JOIN stays b USING ({})", "SELECT * EXCLUDE ({}) FROM stays", "SELECT 1 FROM clinic.{}",
    "SELECT {}.age FROM stays", "DESCRIBE clinic.{}",
])
def test_what_is_hidden_reads_as_what_is_missing(alice, form):
    """Hidden: column `Hidden` and table `Secrets`. Missing: `Absent` and `Nothing`, of as many letters."""
    client = Client(alice, alice.token)
    hidden, missing = ("secrets", "nothing") if "clinic" in form else ("hidden", "absent")
    spellings = [str.lower, str.upper, str.capitalize, lambda name: f'"{name}"', lambda name: f'"{name.capitalize()}"']
    for spell in spellings:
        told = [client.run(form.format(spell(name))) for name in (hidden, missing)]
        texts = [one.text.lower().replace(name, "?") for one, name in zip(told, (hidden, missing))]
        assert all(one.failed for one in told), form
        assert texts[0] == texts[1] and told[0].code == told[1].code


def test_what_the_default_schema_has_not_is_looked_for_in_the_space(alice):
    """A hidden table is as one that is missing, before the space has its name and after."""
    def told(cursor, name):
        with pytest.raises(Exception) as refused:
            cursor.execute(f"SELECT * FROM {name}")
        (sentence,) = re.findall("table `.*", str(refused.value))
        return sentence.replace(name, "NAME")

    with alice.connect("alice", password=alice.token) as connection, connection.cursor() as cursor:
        for schema in (None, "clinic"):
            if schema:
                connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.schema": schema})
            assert told(cursor, "secrets") == told(cursor, "nothing")
            for name in ("secrets", "nothing"):
                cursor.execute(f"CREATE TABLE {name} (a INT)")
                cursor.execute(f"INSERT INTO {name.upper()} VALUES (1), (2)")
                cursor.execute(f"UPDATE {name} SET a = 5 WHERE {name}.a = 2")
                cursor.execute(f"DELETE FROM {name} WHERE {name}.a = 1")
                cursor.execute(f"SELECT {name}.* FROM {name} WHERE {name}.a IN (SELECT a FROM {name})")
                assert cursor.fetchall() == [(5,)]
                cursor.execute(f"WITH {name} AS (SELECT 7 AS a) SELECT {name}.a FROM {name}")
                assert cursor.fetchall() == [(7,)]
            # What is in both is the default schema's.
            cursor.execute("CREATE TABLE space.stays AS SELECT 'of the space' AS ward")
            cursor.execute("SELECT count(*) FROM stays WHERE ward = 'of the space'")
            assert cursor.fetchone() == (0,)
            for name in ("secrets", "nothing", "space.stays"):
                cursor.execute(f"DROP TABLE {name}")
            assert told(cursor, "secrets") == told(cursor, "nothing")


def test_a_view_and_a_change_mean_the_table_that_was_meant(alice):
    """With `clinic` as the default schema, of which `stays` is written in other letters too."""
    with alice.connect("alice", password=alice.token) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE own (a BIGINT)")
        cursor.execute("INSERT INTO OWN (A) VALUES (1)")
        cursor.execute("CREATE VIEW over AS SELECT a FROM own")
        cursor.execute("SELECT a FROM over")
        assert cursor.fetchall() == [(1,)]
        # A table of the dataset goes before that of the space, in any letters, and is nobody's to change.
        cursor.execute("CREATE TABLE space.stays (a BIGINT)")
        for change in ("DROP TABLE stays", "DELETE FROM Stays", "INSERT INTO STAYS VALUES (1)", "UPDATE stays SET a = 1"):
            with pytest.raises(Exception, match="`clinic` is a dataset"):
                cursor.execute(change)
        cursor.execute("SELECT count(*) FROM stays")
        assert cursor.fetchall() == [(3,)]
        # What is made has the name that is written.
        cursor.execute('CREATE TABLE space."Own" (b BIGINT)')
        cursor.execute("CREATE OR REPLACE TABLE own (c BIGINT)")
        cursor.execute('SELECT b FROM space."Own" UNION ALL SELECT c FROM own')
        assert cursor.fetchall() == []
        for drop in ("VIEW space.over", "TABLE own", 'TABLE space."Own"', "TABLE space.stays"):
            cursor.execute(f"DROP {drop}")
