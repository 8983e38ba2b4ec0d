package hubflight;

import static org.junit.jupiter.api.Assertions.*;

import java.sql.*;
import java.util.*;
import org.junit.jupiter.api.*;

/** The calls of DBeaver's generic driver, in its order, on one connection. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
class DbeaverTest {
  private Connection connection;
  private DatabaseMetaData about;

  @BeforeAll
  void connect() throws SQLException {
    connection = Hub.connect("researcher");
    about = connection.getMetaData();
  }

  @AfterAll
  void close() throws SQLException {
    connection.close();
  }

  @Test
  @Order(1)
  void opensTheConnection() throws SQLException {
    // What it shows about the server.
    assertEquals("Hubflight", about.getDatabaseProductName());
    assertFalse(about.getDatabaseProductVersion().isEmpty());
    assertEquals("Arrow Flight SQL JDBC Driver Core", about.getDriverName());
    assertEquals(System.getProperty("driver.version"), about.getDriverVersion());
    assertEquals(4, about.getJDBCMajorVersion());
    // What it decides on: transactions, scrolling, batches.
    assertFalse(about.supportsTransactions());
    assertTrue(about.supportsBatchUpdates());
    for (int level : List.of(1, 4, 8)) assertFalse(about.supportsTransactionIsolationLevel(level));
    assertTrue(about.supportsResultSetType(ResultSet.TYPE_FORWARD_ONLY));
    assertFalse(about.isReadOnly());
    // Its dialect.
    assertEquals("\"", about.getIdentifierQuoteString());
    assertTrue(about.isCatalogAtStart());
    assertEquals(".", about.getCatalogSeparator());
    assertFalse(about.supportsMixedCaseIdentifiers());
    assertTrue(about.supportsMixedCaseQuotedIdentifiers());
    assertTrue(about.supportsSchemasInDataManipulation() && about.supportsCatalogsInDataManipulation());
    assertTrue(about.supportsSubqueriesInIns() && about.supportsSubqueriesInExists());
    for (String list :
        List.of(about.getSQLKeywords(), about.getNumericFunctions(), about.getStringFunctions(),
            about.getSystemFunctions(), about.getTimeDateFunctions())) {
      assertFalse(list.isEmpty());
    }
    // The state of the session.
    connection.setAutoCommit(true);
    connection.setReadOnly(false);
    assertNull(connection.getCatalog());
    assertNull(connection.getSchema());
    assertTrue(connection.isValid(5));
    assertFalse(about.getTypeInfo().next());
    assertEquals(List.of("SYSTEM TABLE", "TABLE", "VIEW"), Hub.rows(about.getTableTypes(), "TABLE_TYPE"));
  }

  @Test
  @Order(2)
  void expandsTheTree() throws SQLException {
    assertEquals(List.of("readmission"), Hub.rows(about.getCatalogs(), "TABLE_CAT"));
    assertEquals(
        List.of("hub", "information_schema", "snds", "space"), Hub.rows(about.getSchemas("readmission", "%"), "TABLE_SCHEM"));
    List<String> tables = Hub.rows(about.getTables("readmission", "snds", "%", null), "TABLE_NAME", "TABLE_TYPE", "REMARKS");
    // Driver: Flight SQL says nothing of a table but its name and type, so REMARKS is NULL.
    assertTrue(tables.containsAll(List.of("ir_ben_r|TABLE|null", "t_mco_b|TABLE|null")));
    // A table, whose name it escapes.
    assertEquals(
        List.of("eta_num", "rsa_num", "ass_dgn"),
        Hub.rows(about.getColumns("readmission", "snds", "t\\_mco\\_d", "%"), "COLUMN_NAME"));
    assertEquals(
        List.of("eta_num|1", "rsa_num|2"),
        Hub.rows(about.getPrimaryKeys("readmission", "snds", "t_mco_b"), "COLUMN_NAME", "KEY_SEQ"));
    assertEquals(
        List.of("ir_ben_r|ben_idt", "ir_cim_v|dgn_pal"),
        Hub.rows(about.getImportedKeys("readmission", "snds", "t_mco_b"), "PKTABLE_NAME", "FKCOLUMN_NAME"));
    assertEquals(
        List.of("t_mco_a", "t_mco_a", "t_mco_d", "t_mco_d"),
        Hub.rows(about.getExportedKeys("readmission", "snds", "t_mco_b"), "FKTABLE_NAME"));
    assertFalse(about.getIndexInfo("readmission", "snds", "t_mco_b", false, true).next());
    assertFalse(about.getProcedures("readmission", "snds", "%").next());
    assertFalse(about.getFunctions("readmission", "snds", "%").next());
  }

  /** All columns of a schema at once, as for the editor's completion and for diagrams. */
  @Test
  @Order(3)
  void readsAllColumnsOfASchema() throws SQLException {
    List<String> all = Hub.rows(about.getColumns("readmission", "snds", "%", "%"), "TABLE_NAME", "COLUMN_NAME");
    List<String> each = new ArrayList<>();
    for (String table : Hub.rows(about.getTables("readmission", "snds", "%", null), "TABLE_NAME")) {
      each.addAll(Hub.rows(about.getColumns("readmission", "snds", table.replace("_", "\\_"), "%"), "TABLE_NAME", "COLUMN_NAME"));
    }
    assertEquals(each, all);
    assertTrue(all.contains("t_mco_b|dgn_pal"));
  }

  private static final String TABLE = "\"readmission\".\"snds\".\"t_mco_b\"";

  @Test
  @Order(4)
  void opensATable() throws SQLException {
    try (Statement statement = connection.createStatement(ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_READ_ONLY)) {
      statement.setFetchSize(200);
      statement.setMaxRows(20);
      assertTrue(statement.execute("SELECT x.* FROM " + TABLE + " x"));
      try (ResultSet rows = statement.getResultSet()) {
        ResultSetMetaData columns = rows.getMetaData();
        Map<String, String> types = new LinkedHashMap<>();
        for (int i = 1; i <= columns.getColumnCount(); i++) {
          types.put(columns.getColumnLabel(i), columns.getColumnTypeName(i));
          assertEquals(columns.getColumnLabel(i), columns.getColumnName(i));
        }
        assertEquals("VARCHAR", types.get("ben_idt"));
        assertEquals("DATE", types.get("ent_dat"));
        int count = 0;
        while (rows.next()) {
          for (int i = 1; i <= columns.getColumnCount(); i++) rows.getObject(i);
          assertEquals(26, rows.getString("ben_idt").length());
          assertNotNull(rows.getDate("ent_dat"));
          count++;
        }
        assertEquals(20, count);
      }
      assertFalse(statement.getMoreResults());
      assertEquals(-1, statement.getUpdateCount());
      assertNull(statement.getWarnings());
    }
  }

  @Test
  @Order(5)
  void editsAFilter() throws SQLException {
    String where = " x WHERE dgn_pal LIKE 'I%' AND ent_dat >= DATE '2000-01-01'";
    long expected = Long.parseLong(Hub.one(connection, "SELECT count(*) FROM " + TABLE + where));
    assertTrue(expected > 0);
    try (Statement statement = connection.createStatement()) {
      statement.setMaxRows(1_000_000);
      assertTrue(statement.execute("SELECT x.* FROM " + TABLE + where + " ORDER BY ent_dat DESC, x.\"rsa_num\""));
      long count = 0;
      java.sql.Date last = null;
      try (ResultSet rows = statement.getResultSet()) {
        while (rows.next()) {
          assertTrue(rows.getString("dgn_pal").startsWith("I"));
          java.sql.Date day = rows.getDate("ent_dat");
          assertTrue(last == null || !day.after(last));
          last = day;
          count++;
        }
      }
      assertEquals(expected, count);
      // Driver: of a result without any batch it has each column twice (it adds them when it prepares
      // and when it executes, and forgets the first ones when a batch comes).
      try (ResultSet rows = statement.executeQuery("SELECT dgn_pal, ent_dat FROM " + TABLE + " x WHERE dgn_pal = 'nothing'")) {
        assertEquals(4, rows.getMetaData().getColumnCount());
        assertFalse(rows.next());
      }
      // One with a mistake says which, and the next statement works.
      Hub.assertSays(
          "column `dgn` does not exist",
          assertThrows(SQLException.class, () -> statement.executeQuery("SELECT x.* FROM " + TABLE + " x WHERE dgn = 1")));
      assertEquals(String.valueOf(expected), Hub.one(connection, "SELECT count(*) FROM " + TABLE + where));
    }
  }

  @Test
  @Order(6)
  void explainsAndDescribes() throws SQLException {
    try (Statement statement = connection.createStatement()) {
      assertTrue(Hub.rows(statement.executeQuery("EXPLAIN SELECT 1"), "plan").size() > 0);
      assertTrue(Hub.rows(statement.executeQuery("DESCRIBE snds.t_mco_b"), "column_name").contains("dgn_pal"));
      assertTrue(Hub.rows(statement.executeQuery("SHOW TABLES"), "table_name").contains("t_mco_b"));
    }
  }

  /** Its table of a result says which table a column is of, how long it is, and its scale. */
  @Test
  @Order(7)
  void aResultDescribesItsColumns() throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery("SELECT prs_pai_mnt, ben_idt FROM snds.er_prs_f LIMIT 1")) {
      ResultSetMetaData columns = rows.getMetaData();
      assertEquals(12, columns.getPrecision(1));
      assertEquals(2, columns.getScale(1));
      assertEquals("er_prs_f", columns.getTableName(1));
      assertEquals("snds", columns.getSchemaName(1));
      assertEquals("readmission", columns.getCatalogName(1));
      assertTrue(columns.isReadOnly(1));
      assertTrue(columns.isSearchable(1));
    }
  }

  /** The hub's own tables have moments in time zones, which everybody opens first. */
  @Test
  @Order(8)
  void readsTheHubsOwnTables() throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery("SELECT * FROM hub.usage WHERE ended_at IS NOT NULL LIMIT 1")) {
      assertTrue(rows.next());
      assertEquals("researcher", rows.getObject("person"));
      assertEquals(Types.TIMESTAMP_WITH_TIMEZONE, rows.getMetaData().getColumnType(rows.findColumn("started_at")));
      assertTrue(rows.getString("started_at").startsWith("20"));
      assertTrue(rows.getTimestamp("started_at").before(new Timestamp(System.currentTimeMillis() + 60_000)));
      assertEquals(rows.getTimestamp("started_at"), rows.getObject("started_at"));
      // Driver: by its number, which is how most tools read, its library has no object for it.
      int column = rows.findColumn("started_at");
      assertEquals(
          "not implemented", assertThrows(RuntimeException.class, () -> rows.getObject(column)).getMessage());
    }
  }
}
