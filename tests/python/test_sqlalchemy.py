"""SQLAlchemy by `flightsql-dbapi`, the one dialect for Flight SQL on PyPI. It was last changed in 2023 and
needs SQLAlchemy 1.4."""

import datetime
import os
import subprocess
import sys

import flightsql.sqlalchemy  # noqa: F401 - registers the dialect; the package has no entry point
import pyarrow as pa
import pytest
import sqlalchemy as sa


def engine(hub, account="researcher", password=None, **query):
    return sa.create_engine(sa.engine.URL.create(
        "datafusion+flightsql", account, password or account and f"{account}-demo", *hub.flight.split(":"),
        query={"insecure": "true", **query}))


@pytest.fixture(scope="module")
def researcher(hub):
    made = engine(hub)
    yield made
    made.dispose()


def stays():
    return sa.table("t_mco_b", sa.column("dgn_pal", sa.String), sa.column("ent_dat", sa.Date),
                    sa.column("ben_idt", sa.String), schema="snds")


def test_a_password_connects(researcher):
    with researcher.connect() as connection:
        assert connection.execute(sa.text("SELECT 'é' AS e, 1 AS one")).fetchall() == [("é", 1)]


def test_a_token_connects(hub):
    token = hub.query("researcher", "CALL hub.create_token('alchemy', 1)")["token"][0].as_py()
    with engine(hub, None, token=token).connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1


def test_tls_by_the_machines_authorities(tls_hub):
    """The dialect takes no authority of its own: what the process trusts counts."""
    program = (
        "import sys, sqlalchemy as sa, flightsql.sqlalchemy\n"
        "made = sa.create_engine(f'datafusion+flightsql://researcher:researcher-demo@{sys.argv[1]}')\n"
        "print(made.connect().execute(sa.text('SELECT 42')).scalar())\n")
    for trusted in (True, False):
        roots = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tls_hub.dir / "tls/ca.pem")} if trusted else {}
        ended = subprocess.run([sys.executable, "-c", program, tls_hub.flight], env={**os.environ, **roots},
                               capture_output=True, text=True, timeout=60)
        assert (ended.stdout == "42\n") == trusted, ended.stderr


def test_the_catalog_is_a_parameter_of_the_url(hub):
    count = sa.select(sa.func.count()).select_from(stays())
    with engine(hub, "consultant", catalog="readmission").connect() as connection:
        assert connection.execute(count).scalar() > 0
    with pytest.raises(pa.ArrowException, match="catalog"), engine(hub, "consultant").connect() as connection:
        connection.execute(count)


def test_tables_are_reflected(hub):
    made = engine(hub, **{"feature-sqlalchemy-primary-keys": "on"})
    inspector = sa.inspect(made)
    assert {"snds", "space", "hub"} <= set(inspector.get_schema_names())
    assert {"t_mco_b", "ir_ben_r"} <= set(inspector.get_table_names("snds"))
    assert inspector.has_table("t_mco_b", "snds") and not inspector.has_table("nothing", "snds")
    assert inspector.get_pk_constraint("t_mco_b", "snds")["constrained_columns"] == ["eta_num", "rsa_num"]
    table = sa.Table("t_mco_b", sa.MetaData(), autoload_with=made, schema="snds")
    assert isinstance(table.c.ent_dat.type, sa.Date) and not table.c.ben_idt.nullable and table.c.dgn_rel.nullable
    # What the project does not see is not reflected.
    persons = sa.Table("ir_ben_r", sa.MetaData(), autoload_with=made, schema="snds")
    assert "ben_nai_ann" in persons.c and "ben_dcd_dte" not in persons.c
    with made.connect() as connection:
        found = connection.execute(sa.select(table.c.dgn_pal, sa.func.count().label("n")).group_by(table.c.dgn_pal)
                                   .order_by(sa.desc("n"), table.c.dgn_pal).limit(3)).fetchall()
    assert found == [tuple(row.values()) for row in hub.query(
        "researcher", "SELECT dgn_pal, count(*) AS n FROM snds.t_mco_b GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3").to_pylist()]


def test_values_are_put_into_the_text(researcher, hub):
    """By default the dialect binds nothing: it writes literals."""
    table = stays()
    count = sa.select(sa.func.count()).select_from(table)
    total = hub.query("researcher", "SELECT count(*) AS n FROM snds.t_mco_b WHERE dgn_pal LIKE 'I%'")["n"][0].as_py()
    with researcher.connect() as connection:
        assert connection.execute(count.where(table.c.dgn_pal.like("I%"))).scalar() == total > 0
        assert connection.execute(count.where(table.c.dgn_pal == "' OR 1=1 --")).scalar() == 0
        assert connection.execute(count.where(table.c.dgn_pal.in_(["I500", "l'été"]))).scalar() >= 0
        # A text of one's own does not say of what type a value is, and is bound: as its type.
        assert connection.execute(sa.text("SELECT :a + 1").bindparams(a=41)).scalar() == 42


def test_values_are_bound(hub):
    """Each as a dense union of one row, with what it is of five types."""
    made = engine(hub, **{"feature-sqlalchemy-prepared-statements": "on"})
    with made.connect() as connection:
        sql = sa.text("SELECT :a + 1 AS a, :b AS b, :c AS c, :d AS d, :e AS e")
        values = {"a": 41, "b": "é", "c": 1.5, "d": True, "e": b"\x00\xff"}
        assert connection.execute(sql, values).fetchall() == [(42, "é", 1.5, True, b"\x00\xff")]
        sql = sa.text("SELECT count(*) FROM snds.t_mco_b WHERE dgn_pal LIKE :code")
        assert connection.execute(sql, {"code": "I%"}).scalar() > connection.execute(sql, {"code": "' OR 1=1 --"}).scalar() == 0


def test_rows_are_changed(researcher):
    """The dialect asks for a change as for a query, and takes its first endpoint."""
    with researcher.connect() as connection:
        connection.execute(sa.text("CREATE OR REPLACE TABLE space.alchemy (a BIGINT, b VARCHAR)"))
        table = sa.table("alchemy", sa.column("a", sa.BigInteger), sa.column("b", sa.String), schema="space")
        connection.execute(table.insert().values(a=1, b="é"))
        assert connection.execute(sa.select(table)).fetchall() == [(1, "é")]
        connection.execute(sa.text("DROP TABLE space.alchemy"))


def test_values_have_pythons_types(researcher):
    with researcher.connect() as connection:
        row = connection.execute(sa.text(
            "SELECT DATE '2024-02-29', TIMESTAMP '2024-02-29T12:30:00', CAST(NULL AS INT), true, 9223372036854775807,"
            " CAST(1.10 AS DECIMAL(12,2)), 'é'")).one()
    # The dialect goes through pandas, where a day is a moment.
    assert row[0].date() == datetime.date(2024, 2, 29) and row[1] == datetime.datetime(2024, 2, 29, 12, 30)
    assert [*map(str, row[2:])] == ["None", "True", "9223372036854775807", "1.10", "é"]


def test_errors_say_what_and_where(researcher, hub):
    with researcher.connect() as connection:
        with pytest.raises(Exception, match="column `nothing` does not exist"):
            connection.execute(sa.text("SELECT nothing FROM snds.t_mco_b"))
        with pytest.raises(Exception, match="table `snds.nothing` does not exist"):
            connection.execute(sa.text("SELECT * FROM snds.nothing"))
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    with pytest.raises(Exception, match="not valid"):
        engine(hub, "nobody", "wrong").connect()


def test_the_dialect_rolls_nothing_back(researcher):
    """`commit` and `rollback` are empty in the dialect."""
    from flightsql.dbapi import Connection
    with researcher.connect() as connection:
        raw = connection.connection.connection
        assert isinstance(raw, Connection) and raw.commit() is None and raw.rollback() is None
        assert not hasattr(raw.client, "begin_transaction") and not hasattr(raw.client, "cancel")
