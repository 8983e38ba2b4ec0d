package hubflight

// The scenarios flight_sql, flight_sql:extension and flight_sql:ingestion of Arrow's integration suite;
// see scenarios_test.go. What flight_sql asks of metadata is in scenarios_metadata_test.go.

import (
	"context"
	"fmt"
	"testing"

	"github.com/apache/arrow-adbc/go/adbc"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// --- flight_sql ---

func TestScenarioStatementExecution(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	dropped(t, connect(t, "researcher"), "go_scenario")
	equal(t, must[int64](t)(client.ExecuteUpdate(ctx, "CREATE TABLE space.go_scenario (a BIGINT)")), int64(0))
	equal(t, must[int64](t)(client.ExecuteUpdate(ctx, "INSERT INTO space.go_scenario SELECT n FROM generate_series(1, 10000) AS s(n)")), int64(10_000))
	const sql = "SELECT sum(a) AS total FROM space.go_scenario"
	info := execute(t, ctx, client, sql)
	equal(t, fieldsOf(t, info.Schema), []string{"total int64"})
	equal(t, fieldsOf(t, must[*flight.SchemaResult](t)(client.GetExecuteSchema(ctx, sql)).Schema), []string{"total int64"})
	equal(t, fetch(t, ctx, client, info.Endpoint[0].Ticket), []string{"50005000"})
}

func TestScenarioPreparedStatementExecution(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	made := must[*flightsql.PreparedStatement](t)(client.Prepare(ctx, "SELECT CAST(? AS BIGINT) + 1 AS id"))
	made.SetParameters(series(t, "id", 1, 1))
	info := must[*flight.FlightInfo](t)(made.Execute(ctx))
	equal(t, fetch(t, ctx, client, info.Endpoint[0].Ticket), []string{"2"})
	equal(t, fieldsOf(t, must[*flight.SchemaResult](t)(made.GetSchema(ctx)).Schema), []string{"id int64"})
	equal(t, fields(made.DatasetSchema()), []string{"id int64"})
	handle := made.Handle()
	done(t, made.Close(ctx))
	_, err := flightsql.NewPreparedStatement(client, handle).Execute(ctx)
	wrong(t, err, codes.NotFound, "no such prepared statement; prepare the statement again")

	dropped(t, connect(t, "researcher"), "go_prepared")
	must[int64](t)(client.ExecuteUpdate(ctx, "CREATE TABLE space.go_prepared (a BIGINT)"))
	change := must[*flightsql.PreparedStatement](t)(client.Prepare(ctx, "INSERT INTO space.go_prepared SELECT n FROM generate_series(1, 20000) AS s(n)"))
	equal(t, change.DatasetSchema().NumFields(), 0)
	equal(t, must[int64](t)(change.ExecuteUpdate(ctx)), int64(20_000))
	done(t, change.Close(ctx))
}

// --- flight_sql:extension ---

func sqlInfo(t *testing.T, ctx context.Context, client *flightsql.Client, codes ...flightsql.SqlInfo) []string {
	t.Helper()
	info := must[*flight.FlightInfo](t)(client.GetSqlInfo(ctx, codes))
	return fetch(t, ctx, client, info.Endpoint[0].Ticket)
}

func TestScenarioServerInformation(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	equal(t, sqlInfo(t, ctx, client, flightsql.SqlInfoFlightSqlServerSql, flightsql.SqlInfoFlightSqlServerSubstrait,
		flightsql.SqlInfoFlightSqlServerSubstraitMinVersion, flightsql.SqlInfoFlightSqlServerSubstraitMaxVersion,
		flightsql.SqlInfoFlightSqlServerTransaction, flightsql.SqlInfoFlightSqlServerCancel,
		flightsql.SqlInfoFlightSqlServerStatementTimeout, flightsql.SqlInfoFlightSqlServerTransactionTimeout),
		[]string{"4|[1,true]", "5|[1,false]", `6|[0,""]`, `7|[0,""]`, "8|[3,1]", "9|[1,true]", "100|[3,3600000]", "101|[3,900000]"})
	_, err := client.GetSqlInfo(ctx, []flightsql.SqlInfo{9999})
	wrong(t, err, codes.InvalidArgument, "`9999` is no code of server information; ask for codes of the Flight SQL "+
		"protocol, or for none to have them all")
}

func TestEverySqlInfoIsAnsweredOnce(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	together := sqlInfo(t, ctx, client)
	equal(t, len(together), 91)
	for _, answer := range together {
		var code uint32
		must[int](t)(fmt.Sscanf(answer, "%d|", &code))
		equal(t, sqlInfo(t, ctx, client, flightsql.SqlInfo(code)), []string{answer})
	}
}

func TestScenarioSubstrait(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	plan := flightsql.SubstraitPlan{Plan: []byte("plan"), Version: "version"}
	_, err := client.ExecuteSubstrait(ctx, plan)
	wrong(t, err, codes.Unimplemented, "this Flight SQL command is not offered; send SQL text")
	_, err = client.GetExecuteSubstraitSchema(ctx, plan)
	wrong(t, err, codes.Unimplemented, "this Flight SQL command is not offered; send SQL text")
	_, err = client.ExecuteSubstraitUpdate(ctx, plan)
	wrong(t, err, codes.Unimplemented, "this DoPut command is not offered; there are updates, the parameters of prepared "+
		"statements, and rows for a table (CommandStatementIngest)")
	_, err = client.PrepareSubstrait(ctx, plan)
	wrong(t, err, codes.Unimplemented, "action `CreatePreparedSubstraitPlan` is not offered; "+actionsOffered)
	t.Skip("server: Substrait plans (CommandStatementSubstraitPlan, CreatePreparedSubstraitPlan) are not offered")
}

func TestScenarioCancelQuery(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	info := execute(t, ctx, client, "SELECT 1 AS one")
	//lint:ignore SA1019 the scenario is about the older call
	result := must[flightsql.CancelResult](t)(client.CancelQuery(ctx, info))
	equal(t, result, flightsql.CancelResultCancelled)
	wrong(t, fetchError(t, ctx, client, info.Endpoint[0].Ticket), codes.Canceled,
		"the statement was cancelled before it was fetched; run it again")
}

func TestScenarioTransactions(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	transaction := must[*flightsql.Txn](t)(client.BeginTransaction(ctx))
	_, err := transaction.BeginSavepoint(ctx, "point")
	wrong(t, err, codes.Unimplemented, "action `BeginSavepoint` is not offered; "+actionsOffered)
	dropped(t, connect(t, "researcher"), "go_transaction")
	must[int64](t)(transaction.ExecuteUpdate(ctx, "CREATE TABLE space.go_transaction (a BIGINT)"))
	done(t, transaction.Rollback(ctx))
	refused(t, refusal(t, connect(t, "researcher"), "SELECT * FROM space.go_transaction"), adbc.StatusNotFound,
		"table `space.go_transaction` does not exist in project `readmission`; `SHOW TABLES` lists what there is")
}

// --- flight_sql:ingestion ---

const (
	create  = flightsql.TableDefinitionOptionsTableNotExistOptionCreate
	fail    = flightsql.TableDefinitionOptionsTableNotExistOptionFail
	exists  = flightsql.TableDefinitionOptionsTableExistsOptionFail
	extend  = flightsql.TableDefinitionOptionsTableExistsOptionAppend
	replace = flightsql.TableDefinitionOptionsTableExistsOptionReplace
)

func ingestOf(table string, missing flightsql.TableDefinitionOptionsTableNotExistOption, existing flightsql.TableDefinitionOptionsTableExistsOption) *flightsql.ExecuteIngestOpts {
	return &flightsql.ExecuteIngestOpts{Table: table,
		TableDefinitionOptions: &flightsql.TableDefinitionOptions{IfNotExist: missing, IfExists: existing}}
}

// ADBC's modes create, append, create_append and replace, of several batches each.
func TestRowsAreIngested(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	connection := connect(t, "researcher")
	dropped(t, connection, "go_sent")
	for _, one := range []struct {
		command *flightsql.ExecuteIngestOpts
		first   int
		code    codes.Code
		text    string
		after   string
	}{
		{ingestOf("go_sent", fail, extend), 1, codes.NotFound, "table `space.go_sent` does not exist; make it with CREATE TABLE", ""},
		{ingestOf("go_sent", create, exists), 1, codes.OK, "", "3000|4501500"},
		{ingestOf("go_sent", create, exists), 1, codes.InvalidArgument, "table `space.go_sent` exists already; write CREATE OR REPLACE, or choose another name", "3000|4501500"},
		{ingestOf("go_sent", fail, extend), 3001, codes.OK, "", "6000|18003000"},
		{ingestOf("go_sent", create, extend), 6001, codes.OK, "", "9000|40504500"},
		{ingestOf("go_sent", create, replace), 1, codes.OK, "", "3000|4501500"},
	} {
		rows := reader(t, series(t, "a", one.first, one.first+999), series(t, "a", one.first+1000, one.first+2999))
		count, err := client.ExecuteIngest(ctx, rows, one.command)
		if one.code == codes.OK {
			done(t, err)
			equal(t, count, int64(3000))
		} else {
			wrong(t, err, one.code, one.text)
		}
		if one.after != "" {
			equal(t, query(t, connection, "SELECT count(*), sum(a) FROM space.go_sent"), []string{one.after})
		}
	}
}

func TestABatchOfNoRowsMakesATable(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	connection := connect(t, "researcher")
	dropped(t, connection, "go_empty")
	none := reader(t, batch(t, numbers("a"), "[]"))
	equal(t, must[int64](t)(client.ExecuteIngest(ctx, none, ingestOf("go_empty", create, exists))), int64(0))
	equal(t, query(t, connection, "SELECT count(*), count(a) FROM space.go_empty"), []string{"0|0"})
	// Of a reader without a batch the client sends nothing, not even what is to become of it.
	nothing := must[array.RecordReader](t)(array.NewRecordReader(numbers("a"), nil))
	_, err := client.ExecuteIngest(ctx, nothing, ingestOf("go_empty", create, extend))
	wrong(t, err, codes.InvalidArgument, "the first message of DoPut has no descriptor")
}

func TestScenarioIngestion(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	connection := connect(t, "researcher")
	dropped(t, connection, "go_table")
	nulls := batch(t, numbers("test_field"), `[{"test_field": null}, {"test_field": null}, {"test_field": null}]`)
	command := ingestOf("go_table", create, replace)
	command.Catalog, command.Schema = proto.String("readmission"), proto.String("space")
	equal(t, must[int64](t)(client.ExecuteIngest(ctx, reader(t, nulls), command)), int64(3))
	equal(t, query(t, connection, "SELECT test_field FROM space.go_table"), []string{"(null)", "(null)", "(null)"})
	for name, one := range map[string]struct {
		change func(*flightsql.ExecuteIngestOpts)
		code   codes.Code
		text   string
	}{
		"temporary": {func(c *flightsql.ExecuteIngestOpts) { c.Temporary = true }, codes.Unimplemented,
			"there are no temporary tables; leave `temporary` out, and drop the table afterwards"},
		"options": {func(c *flightsql.ExecuteIngestOpts) { c.Options = map[string]string{"key1": "val1"} }, codes.InvalidArgument,
			"rows for a table take no `options` here; leave them out"},
		"schema": {func(c *flightsql.ExecuteIngestOpts) { c.Schema = proto.String("snds") }, codes.InvalidArgument,
			"`snds` is a dataset, which nobody can change; tables and views can be made and changed in schema `space` only"},
		"catalog": {func(c *flightsql.ExecuteIngestOpts) { c.Catalog = proto.String("linked") }, codes.NotFound,
			"table `linked.space.go_table` does not exist in project `readmission`; tables and views can be made and changed in schema `space` only"},
		"transaction": {func(c *flightsql.ExecuteIngestOpts) { c.TransactionId = []byte("123") }, codes.InvalidArgument,
			"there is no such transaction; its name is what BeginTransaction answered"},
	} {
		t.Run(name, func(t *testing.T) {
			command := ingestOf("go_table", create, replace)
			command.Catalog, command.Schema = proto.String("readmission"), proto.String("space")
			one.change(command)
			_, err := client.ExecuteIngest(ctx, reader(t, nulls), command)
			wrong(t, err, one.code, one.text)
		})
	}
	equal(t, query(t, connection, "SELECT count(*) FROM space.go_table"), []string{"3"})
}
