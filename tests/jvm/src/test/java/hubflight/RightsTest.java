package hubflight;

import static org.junit.jupiter.api.Assertions.*;

import java.sql.*;
import java.util.*;
import org.junit.jupiter.api.Test;

/** JDBC sees what the project may see, and the server's words reach the user. */
class RightsTest {
  @Test
  void aHiddenColumnIsNowhere() throws SQLException {
    try (Connection connection = Hub.connect("researcher"); Connection other = Hub.connect("hospital")) {
      assertEquals(List.of(), columns(connection, "ben_dcd_dte"));
      assertEquals(List.of("ben_dcd_dte"), columns(other, "ben_dcd_dte"));
      SQLException hidden = Hub.refused(connection, "SELECT ben_dcd_dte FROM snds.ir_ben_r");
      SQLException missing = Hub.refused(connection, "SELECT ben_xxx_dte FROM snds.ir_ben_r");
      Hub.assertSays("column `ben_dcd_dte` does not exist", hidden);
      assertEquals(missing.getMessage().replace("ben_xxx_dte", "ben_dcd_dte"), hidden.getMessage());
      try (Statement statement = connection.createStatement();
          ResultSet rows = statement.executeQuery("SELECT * FROM snds.ir_ben_r LIMIT 1")) {
        assertEquals(7, rows.getMetaData().getColumnCount());
      }
    }
  }

  private static List<String> columns(Connection connection, String name) throws SQLException {
    return Hub.rows(connection.getMetaData().getColumns(null, "snds", "ir_ben_r", name), "COLUMN_NAME");
  }

  @Test
  void aMaskedColumnIsShort() throws SQLException {
    try (Connection connection = Hub.connect("researcher")) {
      assertEquals("true", Hub.one(connection, "SELECT max(length(ben_res_com)) <= 3 FROM snds.ir_ben_r"));
    }
  }

  @Test
  void anotherProjectsTableReadsLikeAMissingOne() throws SQLException {
    try (Connection connection = Hub.connect("researcher")) {
      SQLException foreign = Hub.refused(connection, "SELECT * FROM cardio.ecg");
      SQLException missing = Hub.refused(connection, "SELECT * FROM cardio.nothing");
      Hub.assertSays("table `cardio.ecg` does not exist in project `readmission`; `SHOW TABLES` lists what there is", foreign);
      assertEquals(missing.getMessage().replace("nothing", "ecg"), foreign.getMessage());
      Hub.assertSays("does not exist", Hub.refused(connection, "SELECT * FROM linked.snds.t_mco_b"));
    }
  }

  @Test
  void aggregatesOnlyIsToldWhatToAskFor() throws SQLException {
    try (Connection connection = Hub.connect("epidemiologist")) {
      Hub.assertSays(
          "the project may see only aggregates of dataset `snds`: ask for count(*), count(DISTINCT identifier), sum "
              + "or avg, with or without GROUP BY",
          Hub.refused(connection, "SELECT ben_idt, dgn_pal FROM snds.t_mco_b LIMIT 5"));
      assertTrue(Long.parseLong(Hub.one(connection, "SELECT count(*) FROM snds.t_mco_b")) > 0);
      assertTrue(
          Hub.rows(connection.getMetaData().getTables("surveillance", "snds", "%", null), "TABLE_NAME")
              .contains("t_mco_b"));
      // What DBeaver sends when somebody opens the table.
      Hub.assertSays("only aggregates", Hub.refused(connection, "SELECT * FROM surveillance.snds.t_mco_b"));
    }
  }

  @Test
  void theSpaceOfAnotherProjectIsNotThere() throws SQLException {
    try (Connection connection = Hub.connect("researcher"); Connection other = Hub.connect("hospital")) {
      Hub.update(connection, "CREATE OR REPLACE TABLE space.jdbc_own AS SELECT 1 AS x");
      try {
        assertEquals("1", Hub.one(connection, "SELECT x FROM space.jdbc_own"));
        Hub.assertSays("does not exist", Hub.refused(other, "SELECT x FROM space.jdbc_own"));
        assertEquals(
            List.of(), Hub.rows(other.getMetaData().getTables(null, null, "jdbc\\_own", null), "TABLE_NAME"));
      } finally {
        Hub.update(connection, "DROP TABLE space.jdbc_own");
      }
    }
  }

  @Test
  void noProjectMeansNoCatalogAndNoStatement() throws SQLException {
    try (Connection connection = Hub.connect("visitor")) {
      assertEquals(List.of(), Hub.rows(connection.getMetaData().getCatalogs(), "TABLE_CAT"));
      assertEquals(List.of(), Hub.rows(connection.getMetaData().getTables(null, null, "%", null), "TABLE_NAME"));
      Hub.assertSays("you are a member of no project that is open", Hub.refused(connection, "SELECT 1"));
    }
  }

  @Test
  void anErrorSaysWhereItIs() throws SQLException {
    try (Connection connection = Hub.connect("researcher")) {
      Hub.assertSays(
          "column `dgn` does not exist", Hub.refused(connection, "SELECT dgn\nFROM snds.t_mco_b"));
      Hub.assertSays("at line 1, column 8", Hub.refused(connection, "SELECT dgn\nFROM snds.t_mco_b"));
      Hub.assertSays("Line: 1, Column: 1", Hub.refused(connection, "SELEC 1"));
      Hub.assertSays("send exactly one SQL statement at a time", Hub.refused(connection, "SELECT 1; SELECT 2"));
      assertEquals("1", Hub.one(connection, "SELECT 1;"));
    }
  }
}
