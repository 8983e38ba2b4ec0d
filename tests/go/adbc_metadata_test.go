package hubflight

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-adbc/go/adbc"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// What GetObjects tells, as far as these tests look; what is deeper than was asked for is null.
type catalog struct {
	Name    string   `json:"catalog_name"`
	Schemas []schema `json:"catalog_db_schemas"`
}

type schema struct {
	Name   string  `json:"db_schema_name"`
	Tables []table `json:"db_schema_tables"`
}

type table struct {
	Name    string   `json:"table_name"`
	Type    string   `json:"table_type"`
	Columns []column `json:"table_columns"`
}

type column struct {
	Name     string `json:"column_name"`
	Position int    `json:"ordinal_position"`
	TypeName string `json:"xdbc_type_name"`
	// Where the driver gets them from: metadata of the field.
	Catalog string `json:"xdbc_scope_catalog"`
	Table   string `json:"xdbc_scope_table"`
}

// The depth and the filters of GetObjects; what is empty filters nothing.
type wanted struct {
	depth                          adbc.ObjectDepth
	catalog, schema, table, column string
	types                          []string
}

func filter(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func objects(t *testing.T, connection adbc.Connection, want wanted) []catalog {
	t.Helper()
	reader, err := connection.GetObjects(within(t), want.depth, filter(want.catalog), filter(want.schema),
		filter(want.table), filter(want.column), want.types)
	done(t, err)
	defer reader.Release()
	all := []catalog{}
	for reader.Next() {
		var text bytes.Buffer
		done(t, array.RecordToJSON(reader.RecordBatch(), &text))
		for lines := json.NewDecoder(&text); lines.More(); {
			var one catalog
			done(t, lines.Decode(&one))
			all = append(all, one)
		}
	}
	done(t, reader.Err())
	return all
}

func names[T any](all []T, name func(T) string) []string {
	found := []string{}
	for _, one := range all {
		found = append(found, name(one))
	}
	slices.Sort(found)
	return found
}

func tableNames(all []table) []string {
	return names(all, func(one table) string { return one.Name + " " + one.Type })
}

// The schemas that every project has, and those of its datasets.
func schemas(datasets ...string) []string {
	all := append([]string{"hub", "information_schema", "space"}, datasets...)
	slices.Sort(all)
	return all
}

func TestCatalogsAreOnesProjects(t *testing.T) {
	for account, expected := range map[string][]catalog{
		"researcher": {{Name: "readmission"}},
		"consultant": {{Name: "ecg_ai"}, {Name: "readmission"}},
		"admin":      {{Name: "admin"}},
	} {
		equal(t, objects(t, connect(t, account), wanted{depth: adbc.ObjectDepthCatalogs}), expected)
	}
	equal(t, objects(t, connect(t, "consultant"), wanted{depth: adbc.ObjectDepthCatalogs, catalog: "ecg_ai"}), []catalog{{Name: "ecg_ai"}})
}

func TestSchemasAreTheDatasetsOfAProject(t *testing.T) {
	connection := connect(t, "hospital")
	all := objects(t, connection, wanted{depth: adbc.ObjectDepthDBSchemas})
	equal(t, len(all), 1)
	equal(t, names(all[0].Schemas, func(one schema) string { return one.Name }), schemas("cardio", "imaging", "reports", "snds"))
	some := objects(t, connection, wanted{depth: adbc.ObjectDepthDBSchemas, schema: "%s"})
	equal(t, some, []catalog{{Name: "linked", Schemas: []schema{{Name: "reports"}, {Name: "snds"}}}})
	equal(t, objects(t, connection, wanted{depth: adbc.ObjectDepthDBSchemas, schema: "raw"}), []catalog{{Name: "linked", Schemas: []schema{}}})
}

func TestTablesAreFilteredByPatternsAndTypes(t *testing.T) {
	connection := connect(t, "researcher")
	dropped(t, connection, "go_browsed")
	update(t, connection, "CREATE TABLE space.go_browsed (a BIGINT NOT NULL, b VARCHAR)")
	update(t, connection, "CREATE OR REPLACE VIEW space.go_seen AS SELECT 1 AS one")
	defer update(t, connection, "DROP VIEW space.go_seen")
	for _, one := range []struct {
		wanted
		found []string
	}{
		{wanted{schema: "snds", table: `t\_mco\__`}, []string{"t_mco_a TABLE", "t_mco_b TABLE", "t_mco_d TABLE"}},
		{wanted{schema: "snds", table: "ir_ben_r"}, []string{"ir_ben_r TABLE"}},
		{wanted{schema: "snds", table: "IR_BEN_R"}, []string{}},
		{wanted{schema: "s%", table: "go%"}, []string{"go_browsed TABLE", "go_seen VIEW"}},
		{wanted{schema: "s%", table: "go%", types: []string{"VIEW"}}, []string{"go_seen VIEW"}},
		{wanted{table: "%sag%", types: []string{"SYSTEM TABLE"}}, []string{"usage SYSTEM TABLE"}},
		{wanted{table: "go%", types: []string{"SYSTEM TABLE"}}, []string{}},
		{wanted{table: "ecg"}, []string{}},
	} {
		one.depth = adbc.ObjectDepthTables
		found := []table{}
		for _, catalog := range objects(t, connection, one.wanted) {
			for _, schema := range catalog.Schemas {
				found = append(found, schema.Tables...)
			}
		}
		equal(t, tableNames(found), one.found)
	}
}

func TestColumnsAreThoseThatTheProjectSees(t *testing.T) {
	connection := connect(t, "researcher")
	all := objects(t, connection, wanted{depth: adbc.ObjectDepthColumns, schema: "snds", table: "t_mco_d"})
	equal(t, all, []catalog{{Name: "readmission", Schemas: []schema{{Name: "snds", Tables: []table{{Name: "t_mco_d", Type: "TABLE", Columns: []column{
		{Name: "eta_num", Position: 1, TypeName: "VARCHAR", Catalog: "readmission", Table: "t_mco_d"},
		{Name: "rsa_num", Position: 2, TypeName: "VARCHAR", Catalog: "readmission", Table: "t_mco_d"},
		{Name: "ass_dgn", Position: 3, TypeName: "VARCHAR", Catalog: "readmission", Table: "t_mco_d"},
	}}}}}}})
	hidden := wanted{depth: adbc.ObjectDepthAll, schema: "snds", table: "ir_ben_r", column: "ben_dcd_dte"}
	columns := func(account string) []string {
		return names(objects(t, connect(t, account), hidden)[0].Schemas[0].Tables[0].Columns, func(one column) string { return one.Name })
	}
	equal(t, columns("hospital"), []string{"ben_dcd_dte"})
	equal(t, columns("researcher"), []string{})
}

func TestASchemaOfATableIsThatOfItsRows(t *testing.T) {
	connection := connect(t, "hospital")
	types := []string{"ben_idt utf8", "rec_id utf8", "rec_dte date32", "fs int32",
		"dur_s int32", "leads list<item: utf8, nullable>", "signal list<item: list<item: float32, nullable>, nullable>"}
	told := must[*arrow.Schema](t)(connection.GetTableSchema(within(t), filter("linked"), filter("cardio"), "ecg"))
	equal(t, fields(told), types)
	reader, _, err := statement(t, connection, "SELECT * FROM cardio.ecg LIMIT 1").ExecuteQuery(within(t))
	done(t, err)
	equal(t, fields(reader.Schema()), types)
	equal(t, len(rows(t, reader)), 1)
	_, err = connection.GetTableSchema(within(t), filter("readmission"), filter("snds"), "ir_ben_r")
	refused(t, err, adbc.StatusNotFound, "No table found")
}

func TestTableTypes(t *testing.T) {
	reader := must[array.RecordReader](t)(connect(t, "researcher").GetTableTypes(within(t)))
	equal(t, rows(t, reader), []string{"SYSTEM TABLE", "TABLE", "VIEW"})
}

// The driver asks for the first three of the server unless it is told more.
func TestEveryCodeIsAnswered(t *testing.T) {
	answers := func(codes ...adbc.InfoCode) []string {
		return rows(t, must[array.RecordReader](t)(connect(t, "researcher").GetInfo(within(t), codes)))
	}
	equal(t, answers(adbc.InfoVendorName, adbc.InfoVendorSql, adbc.InfoVendorSubstrait, adbc.InfoVendorSubstraitMinVersion,
		adbc.InfoVendorSubstraitMaxVersion, adbc.InfoDriverName, adbc.InfoDriverADBCVersion),
		[]string{`0|[0,"Hubflight"]`, "3|[1,true]", "4|[1,false]", `5|[0,""]`, `6|[0,""]`,
			`100|[0,"ADBC Flight SQL Driver - Go"]`, "103|[2,1001000]"})
	versions := regexp.MustCompile(`^\[0,"\d+\.\d+\.\d+"\]$`)
	codes := []string{}
	for _, answer := range answers() {
		code, value, _ := strings.Cut(answer, "|")
		codes = append(codes, code)
		if (code == "1" || code == "2") && !versions.MatchString(value) {
			t.Errorf("code %s is no version: %s", code, value)
		}
	}
	equal(t, codes, []string{"0", "1", "2", "100", "101", "102", "103"})
}

func TestWhatIsShownCanBeRead(t *testing.T) {
	connection := connect(t, "researcher")
	unread := []string{}
	for _, row := range query(t, connection, "SHOW TABLES") {
		name := strings.Join(strings.Split(row, "|")[:3], ".")
		if err := refusal(t, connection, "SELECT * FROM "+name+" LIMIT 0"); err != nil {
			unread = append(unread, name)
		}
	}
	equal(t, unread, []string{})
}
