package hubflight

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-adbc/go/adbc"
	driver "github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow"
)

func TestUpdatesCountTheirRows(t *testing.T) {
	connection := connect(t, "researcher")
	dropped(t, connection, "go_counted")
	for _, change := range []struct {
		sql   string
		count int64
	}{
		{"CREATE TABLE space.go_counted (a BIGINT, b VARCHAR)", 0},
		{"INSERT INTO space.go_counted VALUES (1, 'x'), (2, 'y'), (3, NULL)", 3},
		{"INSERT INTO space.go_counted SELECT n, 'many' FROM generate_series(4, 1003) AS s(n)", 1000},
		{"UPDATE space.go_counted SET b = 'z' WHERE a > 1 AND a < 4", 2},
		{"UPDATE space.go_counted SET b = 'z' WHERE a < 0", 0},
		{"DELETE FROM space.go_counted WHERE b = 'many'", 1000},
	} {
		equal(t, update(t, connection, change.sql), change.count)
	}
	equal(t, query(t, connection, "SELECT * FROM space.go_counted ORDER BY a"), []string{"1|x", "2|z", "3|z"})
	equal(t, update(t, connection, "DROP TABLE space.go_counted"), int64(0))
	refused(t, refusal(t, connection, "SELECT * FROM space.go_counted"), adbc.StatusNotFound,
		"table `space.go_counted` does not exist in project `readmission`; `SHOW TABLES` lists what there is")
}

func TestAChangeThatIsExecutedAsAQueryRunsOnce(t *testing.T) {
	connection := connect(t, "researcher")
	dropped(t, connection, "go_once")
	update(t, connection, "CREATE TABLE space.go_once (a BIGINT)")
	made := statement(t, connection, "INSERT INTO space.go_once VALUES (1), (2)")
	reader, count, err := made.ExecuteQuery(within(t))
	done(t, err)
	equal(t, count, int64(2))
	equal(t, reader.Schema().NumFields(), 0)
	equal(t, rows(t, reader), []string{})
	equal(t, query(t, connection, "SELECT a FROM space.go_once ORDER BY a"), []string{"1", "2"})
}

func TestWrongChangesAreRefused(t *testing.T) {
	connection := connect(t, "researcher")
	dropped(t, connection, "go_there")
	update(t, connection, "CREATE TABLE space.go_there (a BIGINT)")
	for sql, text := range map[string]string{
		"SELECT 1":                              "this statement is a query; execute it as one to fetch its rows",
		"CREATE TABLE space.go_there (a INT)":   "table `space.go_there` exists already; write CREATE OR REPLACE, or choose another name",
		"INSERT INTO snds.ir_cim_v VALUES ('')": "`snds` is a dataset, which nobody can change; tables and views can be made and changed in schema `space` only",
	} {
		_, err := statement(t, connection, sql).ExecuteUpdate(within(t))
		refused(t, err, adbc.StatusInvalidArgument, text)
	}
}

func TestAPreparedUpdateRunsForEveryBoundRow(t *testing.T) {
	connection := connect(t, "researcher")
	dropped(t, connection, "go_bound")
	update(t, connection, "CREATE TABLE space.go_bound (a BIGINT)")
	made := prepared(t, connection, "INSERT INTO space.go_bound VALUES (?)")
	done(t, made.Bind(within(t), series(t, "a", 1, 1000)))
	equal(t, must[int64](t)(made.ExecuteUpdate(within(t))), int64(1000))
	done(t, made.BindStream(within(t), reader(t, series(t, "a", 1001, 1500), series(t, "a", 1501, 1600))))
	equal(t, must[int64](t)(made.ExecuteUpdate(within(t))), int64(600))
	equal(t, query(t, connection, "SELECT count(*), count(DISTINCT a), sum(a) FROM space.go_bound"), []string{"1600|1600|1280800"})
}

// What is bound is replaced by what is bound next, also by nothing.
func TestABatchOfNoRowsRunsNothing(t *testing.T) {
	connection := connect(t, "researcher")
	dropped(t, connection, "go_none")
	update(t, connection, "CREATE TABLE space.go_none (a BIGINT)")
	made := prepared(t, connection, "INSERT INTO space.go_none VALUES (?)")
	done(t, made.Bind(within(t), series(t, "a", 1, 3)))
	_, count, err := made.ExecuteQuery(within(t))
	done(t, err)
	equal(t, count, int64(3))
	tag := tagged(t, connection)
	done(t, made.BindStream(within(t), reader(t, batch(t, numbers("a"), "[]"))))
	count, err = made.ExecuteUpdate(within(t))
	done(t, err)
	inserted := query(t, connect(t, "researcher"), "SELECT count(*) FROM space.go_none")[0]
	equal(t, []any{count, inserted}, []any{int64(0), "3"})
	// It leaves its record, as every statement does.
	equal(t, ended(t, tag, "state = 'ok'"), "1")
}

func TestAStreamOfNoRowsIsNoMissingParameter(t *testing.T) {
	made := prepared(t, connect(t, "researcher"), "SELECT CAST(? AS BIGINT) AS a")
	done(t, made.BindStream(within(t), reader(t, batch(t, numbers("a"), "[]"))))
	result, _, err := made.ExecuteQuery(within(t))
	done(t, err)
	equal(t, rows(t, result), []string{})
}

// The driver sends no batch of no rows, so that the server still has those of before.
func TestTheDriverForgetsABatchOfNoRows(t *testing.T) {
	made := prepared(t, connect(t, "researcher"), "SELECT CAST(? AS BIGINT) AS a")
	for _, bound := range []arrow.RecordBatch{series(t, "a", 1, 3), batch(t, numbers("a"), "[]")} {
		done(t, made.Bind(within(t), bound))
		result, _, err := made.ExecuteQuery(within(t))
		done(t, err)
		equal(t, rows(t, result), []string{"1", "2", "3"})
	}
}

func TestARowOfTheWrongLengthIsRefused(t *testing.T) {
	connection := connect(t, "researcher")
	for _, sql := range []string{"SELECT CAST(? AS BIGINT) + CAST(? AS BIGINT) AS a", "SELECT ?, ?, ? AS a"} {
		made := prepared(t, connection, sql)
		done(t, made.Bind(within(t), series(t, "a", 1, 3)))
		_, _, err := made.ExecuteQuery(within(t))
		count := strings.Count(sql, "?")
		refused(t, err, adbc.StatusInvalidArgument, fmt.Sprintf("the statement has %d parameters and a row of 1 values was bound", count))
	}
}

func TestPreparingAndDescribingChangeNothing(t *testing.T) {
	connection := connect(t, "researcher")
	dropped(t, connection, "go_untouched")
	update(t, connection, "CREATE TABLE space.go_untouched (a BIGINT)")
	const sql = "INSERT INTO space.go_untouched VALUES (1)"
	made := prepared(t, connection, sql)
	schema := must[*arrow.Schema](t)(statement(t, connection, sql).(adbc.StatementExecuteSchema).ExecuteSchema(within(t)))
	equal(t, schema.NumFields(), 0)
	equal(t, query(t, connection, "SELECT count(*) FROM space.go_untouched"), []string{"0"})
	equal(t, must[int64](t)(made.ExecuteUpdate(within(t))), int64(1))
	equal(t, query(t, connection, "SELECT count(*) FROM space.go_untouched"), []string{"1"})
}

func TestACancelledContextStopsAChange(t *testing.T) {
	connection := connect(t, "researcher")
	dropped(t, connection, "go_cancelled")
	update(t, connection, "CREATE TABLE space.go_cancelled (a BIGINT)")
	for way, run := range map[string]func(context.Context, adbc.Statement) error{
		"DoPut":         func(ctx context.Context, made adbc.Statement) error { _, err := made.ExecuteUpdate(ctx); return err },
		"GetFlightInfo": func(ctx context.Context, made adbc.Statement) error { _, _, err := made.ExecuteQuery(ctx); return err },
	} {
		t.Run(way, func(t *testing.T) {
			tag := tagged(t, connection)
			ctx, cancel := context.WithCancel(within(t))
			time.AfterFunc(300*time.Millisecond, cancel)
			refused(t, run(ctx, statement(t, connection, "INSERT INTO space.go_cancelled "+slow)), adbc.StatusCancelled, "context canceled")
			equal(t, ended(t, tag, "state = 'cancelled'"), "1")
			equal(t, query(t, connection, "SELECT count(*) FROM space.go_cancelled"), []string{"0"})
		})
	}
}

func TestAnUpdateThatTakesTooLongChangesNothing(t *testing.T) {
	connection := connect(t, "researcher")
	dropped(t, connection, "go_late")
	update(t, connection, "CREATE TABLE space.go_late (a BIGINT)")
	tag := tagged(t, connection)
	made := statement(t, connection, "INSERT INTO space.go_late "+slow)
	done(t, made.SetOption(driver.OptionTimeoutUpdate, "0.5"))
	_, err := made.ExecuteUpdate(within(t))
	timedOut(t, err)
	equal(t, ended(t, tag, "(state = 'cancelled' OR error_kind = 'deadline_exceeded')"), "1")
	equal(t, query(t, connection, "SELECT count(*) FROM space.go_late"), []string{"0"})
}

// Flight SQL's driver of this version offers no bulk ingest; Arrow's client does (TestRowsAreIngested).
func TestTheDriverHasNoBulkIngest(t *testing.T) {
	connection := connect(t, "researcher")
	made := must[adbc.Statement](t)(connection.NewStatement())
	defer made.Close()
	refused(t, made.SetOption(adbc.OptionKeyIngestTargetTable, "t"), adbc.StatusNotImplemented,
		"[Flight SQL] Unknown statement option 'adbc.ingest.target_table'")
	refused(t, made.SetOption(adbc.OptionKeyIngestMode, adbc.OptionValueIngestModeAppend), adbc.StatusNotImplemented,
		"[Flight SQL] Unknown statement option 'adbc.ingest.mode'")
	refused(t, made.Bind(within(t), series(t, "a", 1, 3)), adbc.StatusInvalidState,
		"[Flight SQL Statement] must call Prepare before calling Bind")
}

// --- transactions ---

func TestTransactionsKeepOrForget(t *testing.T) {
	connection, other := connect(t, "researcher"), connect(t, "researcher")
	set := connection.(adbc.PostInitOptions)
	done(t, set.SetOption(adbc.OptionKeyAutoCommit, adbc.OptionValueDisabled))
	update(t, connection, "CREATE TABLE space.go_kept AS SELECT 1 AS a")
	equal(t, query(t, connection, "SELECT a FROM space.go_kept"), []string{"1"})
	refused(t, refusal(t, other, "SELECT a FROM space.go_kept"), adbc.StatusNotFound,
		"table `space.go_kept` does not exist in project `readmission`; `SHOW TABLES` lists what there is")
	done(t, connection.Commit(within(t)))
	equal(t, query(t, other, "SELECT a FROM space.go_kept"), []string{"1"})
	update(t, connection, "DROP TABLE space.go_kept")
	done(t, connection.Rollback(within(t)))
	equal(t, query(t, connection, "SELECT a FROM space.go_kept"), []string{"1"})
	// To commit by each statement again commits what is open.
	update(t, connection, "DROP TABLE space.go_kept")
	done(t, set.SetOption(adbc.OptionKeyAutoCommit, adbc.OptionValueEnabled))
	refused(t, refusal(t, other, "SELECT a FROM space.go_kept"), adbc.StatusNotFound,
		"table `space.go_kept` does not exist in project `readmission`; `SHOW TABLES` lists what there is")
	refused(t, connection.Commit(within(t)), adbc.StatusInvalidState, "[Flight SQL] Cannot commit when autocommit is enabled")
	refused(t, connection.Rollback(within(t)), adbc.StatusInvalidState, "[Flight SQL] Cannot rollback when autocommit is enabled")
	equal(t, query(t, connection, "SELECT 1"), []string{"1"})
}

func TestSubstraitPlansAreRefused(t *testing.T) {
	made := must[adbc.Statement](t)(connect(t, "researcher").NewStatement())
	defer made.Close()
	done(t, made.SetSubstraitPlan([]byte("plan")))
	_, _, err := made.ExecuteQuery(within(t))
	refused(t, err, adbc.StatusNotImplemented, "this Flight SQL command is not offered; send SQL text")
}
