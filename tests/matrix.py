#!/usr/bin/env python3
"""Prints which client does what with the hub, of what the suites left in cargo's target folder.

Each cell names the tests that show it. It is `yes` where they passed, a number where the client itself
cannot, and a letter where the server does not yet; the reasons stand below. It fails where a cell has no
test, a test is gone or failed, or a reason is empty.

    tests/matrix.py [FOLDER]
"""

import json
import subprocess
import sys
from pathlib import Path

FEATURES = [
    "connect: password", "connect: token", "TLS", "metadata", "query", "parameters", "many rows of parameters", "update count",
    "ingest", "transactions", "cancel", "time-out", "session options", "types", "errors",
]


def of_tools(tool, *types):
    """The cells of a tool that `test_tools.py` has all tests for."""
    tests = ["password", "token", "tls", "metadata", "query", "parameters", "many_rows_of_parameters", "update_count", "ingest",
             "transactions", "cancel", "timeout", "session_options", None, "errors"]
    return {feature: [f"test_tools.py::test_{test}[{tool}]"] if test else [*types] for feature, test in zip(FEATURES, tests)}


def of_file(suite, prefix, cells):
    """Cells whose tests have names with one beginning; a text alone is why the client cannot."""
    return {feature: cell if isinstance(cell, str) else [f"{prefix}{test}" for test in cell] for feature, cell in zip(FEATURES, cells, strict=True)}


EVERY_TYPE = "test_types.py::test_rows_for_a_table[int64]", "test_types.py::test_parameters[timestamp[ns]]", "test_types.py::test_results[true]"
NO_OPTIONS = "a dialect's connection has no call for options; `catalog` goes as a parameter of the URL"

# Client → (suite, cells).
CLIENTS = {
    "ADBC Python dbapi": ("python", of_tools("dbapi", *EVERY_TYPE)),
    "ADBC low level": ("python", of_tools("low level", *EVERY_TYPE)),
    "pyarrow.flight": ("python", of_tools("flight", "test_types.py::test_flight_writes_and_reads_all_types_at_once")),
    **{name: ("python", of_tools(tool, f"test_types.py::test_tools_read_each_type[{tool}]", f"test_types.py::test_tools_write_each_type[{tool}]"))
       for name, tool in (("polars", "polars"), ("pandas", "pandas"), ("DuckDB", "DuckDB"))},
    "SQLAlchemy": ("python", of_file("python", "test_sqlalchemy.py::test_", [
        ["a_password_connects"], ["a_token_connects"], ["tls_by_the_machines_authorities"], ["tables_are_reflected"],
        ["values_are_put_into_the_text"], ["values_are_bound"],
        "`executemany` of the dialect runs each row as a query of its own",
        "its `rowcount` is that of rows that were read", ["rows_are_changed"],
        "`commit` and `rollback` of the dialect are empty", "the dialect has no call to cancel", "the dialect sets no time-out",
        NO_OPTIONS, ["values_have_pythons_types"], ["errors_say_what_and_where"]])),
    "JDBC 18.3.0": ("jdbc-18.3.0", of_file("jdbc-18.3.0", "", [
        ["ConnectTest: a password in properties", "ConnectTest: a password in the url"], ["ConnectTest: a token of ones own"],
        ["ConnectTest: tls with the authority", "ConnectTest: tls of an unknown authority is refused"],
        ["DbeaverTest: expands the tree", "MetadataTest: every getter answers", "MetadataTest: primary keys", "MetadataTest: foreign keys"],
        ["StatementTest: a large result comes whole", "DbeaverTest: opens a table"],
        ["StatementTest: every number binds", "StatementTest: text bytes and dates bind", "StatementTest: null binds"],
        ["StatementTest: changes with parameters"], ["StatementTest: changes are counted"],
        "the driver has no bulk ingest; a batch of INSERT is one change",
        "`commit` and `rollback` of the driver are empty", ["StatementTest: cancels from another thread", "StatementTest: cancels while reading"],
        ["StatementTest: times out"], ["ConnectTest: a catalog in the url chooses the project"],
        ["TypesTest: numbers through each getter", "TypesTest: moments in zones", "TypesTest: lists", "TypesTest: structs and maps"],
        ["RightsTest: an error says where it is", "RightsTest: aggregates only is told what to ask for"]])),
    "Go ADBC": ("go", of_file("go", "Test", [
        ["APasswordOrABearerTokenConnects"], ["ATokenOfOnesOwnConnectsADBC"], ["ADBCConnectsByTLS"],
        ["TablesAreFilteredByPatternsAndTypes", "ColumnsAreThoseThatTheProjectSees", "EveryCodeIsAnswered"],
        ["AResultHasTheAnnouncedTypes", "AResultOfNoRowsHasItsSchema"], ["ParametersAreDescribed"], ["EveryBoundRowIsExecuted"],
        ["UpdatesCountTheirRows"], "the driver of this version (1.8.0) has no bulk ingest", ["ATransactionOfADBC"],
        ["ACancelledContextStopsTheQuery", "AReaderThatIsReleasedStopsTheQuery"], ["TheDriversTimeoutStopsTheQuery", "TheServersTimeoutStopsTheQuery"],
        ["OptionsHaveTheirTypes", "CatalogAndSchemaAreOptionsOfADBC"], ["ValuesOfEachTypeComeBack"], ["ErrorsTellWhatWasWrong"]])),
    "Go Flight SQL": ("go", of_file("go", "Test", [
        ["AnyCallTakesBasicAuthorization"], ["ATokenOfOnesOwnConnectsFlight"], ["FlightConnectsByTLS"], ["ScenarioMetadata"],
        ["ScenarioStatementExecution"], ["ScenarioPreparedStatementExecution"], ["FlightExecutesEveryBoundRow"],
        ["ScenarioStatementExecution"], ["RowsAreIngested", "ScenarioIngestion"], ["ScenarioTransactions"],
        ["ACancelStopsWhatRuns", "ScenarioCancelQuery"], ["ADeadlineStopsWhatFlightReads"], ["ScenarioSessionOptions"],
        ["ValuesOfEachTypeComeBack"], ["WrongPathsAreRefused"]])),
    "R reticulate": ("r", of_file("r", "adbc: ", [
        ["a password connects"], ["a token connects"], ["TLS with the authority"], ["tables and columns are listed"],
        ["queries are data frames", "many rows come whole"], ["parameters"], ["many rows of parameters"], ["changes are counted"],
        ["a data frame becomes a table"], ["transactions"], ["a cancel ends the statement"], ["a time-out ends the statement"],
        ["session options"], ["types", "NULL is NA of each type", "dictionaries are factors", "accents in names and data"],
        ["errors say what and where"]])),
    "R JDBC": ("r", of_file("r", "jdbc: ", [
        ["a password connects"], ["a token connects"], ["TLS with the authority"], ["tables and fields are listed"],
        ["queries are data frames", "rows are fetched in parts"], ["parameters"], ["many rows of parameters are one batch"],
        ["changes are counted"], "the driver has no bulk ingest; `dbWriteTable` sends a batch of INSERT",
        "`commit` and `rollback` of the driver are empty", ["a cancel while reading ends the statement"], ["a time-out ends the statement"],
        ["the catalog is an option of the url"], ["types", "NULL is NA of each type", "accents in names and data"],
        ["errors say what and where"]])),
}


def judge(cell, outcomes):
    """(what a cell shows, what is wrong with it): `yes`, or the reason with whose it is."""
    if isinstance(cell, str):
        return (f"client: {cell}", None) if cell.strip() else ("", "the reason is empty")
    if not cell:
        return "", "no test is named"
    shown = "yes"
    for test in cell:
        outcome = outcomes.get(test)
        if outcome is None:
            return "", f"there is no test `{test}`"
        if outcome == "pass":
            continue
        owner, _, reason = outcome.partition(": ")
        if owner not in ("client", "server") or not reason.strip():
            return "", f"`{test}`: {outcome or 'the reason is empty'}"
        shown = outcome
    return shown, None


def table(clients, read):
    """The lines to print, and what is wrong."""
    judged, wrong = {}, []
    for client, (suite, cells) in clients.items():
        outcomes = read(suite)
        for feature in FEATURES:
            shown, fault = judge(cells.get(feature, []), outcomes)
            judged[client, feature] = shown
            if fault:
                wrong.append(f"{client}, {feature}: {fault}")
    marks, counts = {}, {"client": 0, "server": 0}
    for shown in judged.values():
        owner = shown.partition(": ")[0]
        if owner in counts and shown not in marks:
            counts[owner] += 1
            marks[shown] = str(counts[owner]) if owner == "client" else chr(ord("a") + counts[owner] - 1)
    width = max(map(len, clients))
    # Features above their columns, each a line lower than the one before would take too many: numbered.
    lines = ["Features: " + "  ".join(f"{number} {feature}" for number, feature in enumerate(FEATURES, 1)), ""]
    lines.append(" " * width + "".join(f"{number:>5}" for number in range(1, len(FEATURES) + 1)))
    for client in clients:
        cells = (judged[client, feature] for feature in FEATURES)
        lines.append(client.ljust(width) + "".join(f"{'yes' if shown == 'yes' else f'({marks[shown]})' if shown in marks else '?':>5}" for shown in cells))
    lines.append("")
    lines += [f"({mark}) {reason}" for reason, mark in sorted(marks.items(), key=lambda one: (one[0][:6], len(one[1]), one[1]))]
    total = len(judged)
    yes = sum(shown == "yes" for shown in judged.values())
    waits = sum(shown.startswith("server: ") for shown in judged.values())
    lines.append(f"{yes} of {total} cells work, {total - yes - waits - len(wrong)} the client itself cannot, {waits} wait for the server")
    return lines, wrong


def main():
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
    else:
        metadata = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"], check=True, capture_output=True)
        folder = Path(json.loads(metadata.stdout)["target_directory"]) / "matrix"
    files = {}

    def read(suite):
        if suite not in files:
            path = folder / f"{suite}.json"
            if not path.is_file():
                sys.exit(f"tests/matrix.py: there is no `{path}`; run the suite of `{suite}`, or all of tests/run")
            files[suite] = json.loads(path.read_text(encoding="utf-8"))
        return files[suite]

    lines, wrong = table(CLIENTS, read)
    print("\n".join(lines))
    if wrong:
        sys.exit("tests/matrix.py: cells without a result:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
