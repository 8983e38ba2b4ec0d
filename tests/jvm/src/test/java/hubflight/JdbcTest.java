package hubflight;

import static org.junit.jupiter.api.Assertions.*;

import java.sql.*;
import java.util.*;
import org.junit.jupiter.api.Test;

/** What DBeaver does, with the driver that it loads. */
class JdbcTest {
  static Connection connect(String account, String extra) throws SQLException {
    String url = "jdbc:arrow-flight-sql://" + System.getenv("HUBFLIGHT_ADDRESS") + "/?useEncryption=false" + extra;
    return DriverManager.getConnection(url, account, account + "-demo");
  }

  static List<String> column(ResultSet rows, String name) throws SQLException {
    List<String> values = new ArrayList<>();
    try (rows) {
      while (rows.next()) values.add(rows.getString(name));
    }
    return values;
  }

  @Test
  void browsesCatalogsSchemasTablesAndColumns() throws SQLException {
    try (Connection connection = connect("researcher", "")) {
      DatabaseMetaData about = connection.getMetaData();
      assertEquals("Hubflight", about.getDatabaseProductName());
      assertEquals(List.of("readmission"), column(about.getCatalogs(), "TABLE_CAT"));
      assertTrue(column(about.getSchemas(), "TABLE_SCHEM").containsAll(List.of("snds", "space", "hub")));
      assertTrue(column(about.getTables("readmission", "snds", "%", null), "TABLE_NAME").contains("t_mco_b"));
      List<String> columns = column(about.getColumns("readmission", "snds", "ir_ben_r", "%"), "COLUMN_NAME");
      assertTrue(columns.contains("ben_idt"));
      assertFalse(columns.contains("ben_dcd_dte"));
      assertEquals(
          Set.of("eta_num", "rsa_num"),
          new HashSet<>(column(about.getPrimaryKeys("readmission", "snds", "t_mco_b"), "COLUMN_NAME")));
      // getTypeInfo is not among them: driver 18.3 answers it without asking the server.
      assertFalse(column(about.getTableTypes(), "TABLE_TYPE").isEmpty());
      about.getImportedKeys("readmission", "snds", "t_mco_d").close();
      about.getExportedKeys("readmission", "snds", "t_mco_b").close();
      // Every question that DBeaver asks when it connects must have an answer.
      about.getSQLKeywords();
      about.getNumericFunctions();
      about.getStringFunctions();
      about.getIdentifierQuoteString();
      about.supportsTransactions();
      about.getMaxStatementLength();
    }
  }

  @Test
  void queriesAndPrepares() throws SQLException {
    try (Connection connection = connect("researcher", "")) {
      try (Statement statement = connection.createStatement();
          ResultSet rows = statement.executeQuery("SELECT dgn_pal, ent_dat FROM snds.t_mco_b LIMIT 5")) {
        int count = 0;
        while (rows.next()) {
          assertNotNull(rows.getString(1));
          assertNotNull(rows.getDate(2));
          count++;
        }
        assertEquals(5, count);
      }
      try (PreparedStatement statement =
          connection.prepareStatement("SELECT count(*) FROM snds.ir_ben_r WHERE ben_nai_ann < ?")) {
        statement.setInt(1, 2100);
        try (ResultSet rows = statement.executeQuery()) {
          assertTrue(rows.next());
          assertTrue(rows.getLong(1) > 0);
        }
      }
    }
  }

  @Test
  void changesTheSpace() throws SQLException {
    try (Connection connection = connect("researcher", "");
        Statement statement = connection.createStatement()) {
      statement.executeUpdate("DROP TABLE IF EXISTS space.jdbc");
      statement.executeUpdate("CREATE TABLE space.jdbc (id INT, note VARCHAR)");
      assertEquals(2, statement.executeUpdate("INSERT INTO space.jdbc VALUES (1, 'a'), (2, 'b')"));
      assertEquals(1, statement.executeUpdate("DELETE FROM space.jdbc WHERE id = 1"));
      try (ResultSet rows = statement.executeQuery("SELECT note FROM space.jdbc")) {
        assertTrue(rows.next());
        assertEquals("b", rows.getString(1));
      }
      statement.executeUpdate("DROP TABLE space.jdbc");
    }
  }

  @Test
  void aCatalogInTheUrlChoosesTheProject() throws SQLException {
    Connection connection = connect("consultant", "&catalog=ecg_ai");
    try (Statement statement = connection.createStatement()) {
      try (ResultSet rows = statement.executeQuery("SELECT count(*) FROM cardio.ecg")) {
        assertTrue(rows.next());
        assertTrue(rows.getLong(1) > 0);
      }
      SQLException refused =
          assertThrows(SQLException.class, () -> statement.executeQuery("SELECT count(*) FROM snds.t_mco_b"));
      assertTrue(refused.getMessage().contains("does not exist"), refused.getMessage());
    }
    // Driver 18.3 closes its client twice, and the second CloseSession finds the channel shut.
    SQLException twice = assertThrows(SQLException.class, connection::close);
    assertTrue(twice.getMessage().contains("Channel shutdown invoked"), twice.getMessage());
  }

  @Test
  void aForeignCatalogInTheUrlIsRefused() throws SQLException {
    assertThrows(SQLException.class, () -> connect("researcher", "&catalog=ecg_ai"));
  }

  @Test
  void errorsReachTheUser() throws SQLException {
    try (Connection connection = connect("researcher", "");
        Statement statement = connection.createStatement()) {
      SQLException error = assertThrows(SQLException.class, () -> statement.executeQuery("SELECT * FROM cardio.ecg"));
      assertTrue(error.getMessage().contains("does not exist"), error.getMessage());
    }
    assertThrows(SQLException.class, () -> {
      String url = "jdbc:arrow-flight-sql://" + System.getenv("HUBFLIGHT_ADDRESS") + "/?useEncryption=false";
      DriverManager.getConnection(url, "researcher", "wrong").close();
    });
  }
}
