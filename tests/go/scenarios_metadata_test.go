package hubflight

// What the scenario flight_sql asks of metadata; see scenarios_test.go.

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql/schema_ref"
	"google.golang.org/protobuf/proto"
)

// Clients compare schemas to the letter, nullability included.
func TestScenarioMetadata(t *testing.T) {
	client, ctx := flightClient(t, "hospital")
	info, schema := must[*flight.FlightInfo](t), must[*flight.SchemaResult](t)
	of := func(catalog, schema, table string) flightsql.TableRef {
		return flightsql.TableRef{Catalog: &catalog, DBSchema: &schema, Table: table}
	}
	stays, persons, nothing := of("linked", "snds", "t_mco_b"), of("linked", "snds", "ir_ben_r"), of("pk_catalog", "pk_db_schema", "pk_table")
	schemas := &flightsql.GetDBSchemasOpts{Catalog: proto.String("linked"), DbSchemaFilterPattern: proto.String("s%")}
	tables := &flightsql.GetTablesOpts{Catalog: proto.String("linked"), DbSchemaFilterPattern: proto.String("snds"),
		TableNameFilterPattern: proto.String("t_mco%"), TableTypes: []string{"TABLE", "VIEW"}}
	withSchemas := &flightsql.GetTablesOpts{TableNameFilterPattern: proto.String("t_mco%"), IncludeSchema: true}
	two := []flightsql.SqlInfo{flightsql.SqlInfoFlightSqlServerName, flightsql.SqlInfoFlightSqlServerReadOnly}
	for name, one := range map[string]struct {
		expected *arrow.Schema
		rows     int
		info     *flight.FlightInfo
		schema   *flight.SchemaResult
	}{
		"catalogs": {schema_ref.Catalogs, 1, info(client.GetCatalogs(ctx)), schema(client.GetCatalogsSchema(ctx))},
		"schemas":  {schema_ref.DBSchemas, 2, info(client.GetDBSchemas(ctx, schemas)), schema(client.GetDBSchemasSchema(ctx))},
		"tables":   {schema_ref.Tables, 3, info(client.GetTables(ctx, tables)), schema(client.GetTablesSchema(ctx, tables))},
		"tables and schemas": {schema_ref.TablesWithIncludedSchema, 3, info(client.GetTables(ctx, withSchemas)),
			schema(client.GetTablesSchema(ctx, withSchemas))},
		"table types":             {schema_ref.TableTypes, 3, info(client.GetTableTypes(ctx)), schema(client.GetTableTypesSchema(ctx))},
		"primary keys":            {schema_ref.PrimaryKeys, 2, info(client.GetPrimaryKeys(ctx, stays)), schema(client.GetPrimaryKeysSchema(ctx))},
		"primary keys of nothing": {schema_ref.PrimaryKeys, 0, info(client.GetPrimaryKeys(ctx, nothing)), schema(client.GetPrimaryKeysSchema(ctx))},
		"exported keys":           {schema_ref.ExportedKeys, 4, info(client.GetExportedKeys(ctx, stays)), schema(client.GetExportedKeysSchema(ctx))},
		"imported keys":           {schema_ref.ImportedKeys, 2, info(client.GetImportedKeys(ctx, stays)), schema(client.GetImportedKeysSchema(ctx))},
		"cross reference": {schema_ref.CrossReference, 1, info(client.GetCrossReference(ctx, persons, stays)),
			schema(client.GetCrossReferenceSchema(ctx))},
		"types":              {schema_ref.XdbcTypeInfo, 24, info(client.GetXdbcTypeInfo(ctx, nil)), schema(client.GetXdbcTypeInfoSchema(ctx))},
		"server information": {schema_ref.SqlInfo, 2, info(client.GetSqlInfo(ctx, two)), schema(client.GetSqlInfoSchema(ctx))},
	} {
		t.Run(name, func(t *testing.T) {
			equal(t, len(one.info.Endpoint), 1)
			stream := must[*flight.Reader](t)(client.DoGet(ctx, one.info.Endpoint[0].Ticket))
			streamed, found := stream.Schema(), rows(t, stream)
			if len(found) != one.rows {
				t.Errorf("%d rows, expected %d: %v", len(found), one.rows, found)
			}
			told := must[*arrow.Schema](t)(flight.DeserializeSchema(one.schema.Schema, client.Alloc))
			announced := must[*arrow.Schema](t)(flight.DeserializeSchema(one.info.Schema, client.Alloc))
			for where, schema := range map[string]*arrow.Schema{"GetSchema": told, "GetFlightInfo": announced, "DoGet": streamed} {
				if !one.expected.Equal(schema) {
					t.Errorf("%s gives %s, expected %s", where, schema, one.expected)
				}
			}
		})
	}
}
