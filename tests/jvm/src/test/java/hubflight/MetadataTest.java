package hubflight;

import static org.junit.jupiter.api.Assertions.*;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.sql.*;
import java.util.*;
import org.junit.jupiter.api.*;

/** What DatabaseMetaData says, in full. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class MetadataTest {
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

  /** Answers of the server that clients act on; the rest of the getters must at least answer. */
  private static final Map<String, Object> EXPECTED = new TreeMap<>(Map.ofEntries(
      Map.entry("getDatabaseProductName", "Hubflight"),
      Map.entry("getUserName", "researcher"),
      Map.entry("getIdentifierQuoteString", "\""),
      Map.entry("getSearchStringEscape", "\\"),
      Map.entry("getExtraNameCharacters", "#@$"),
      Map.entry("getCatalogSeparator", "."),
      Map.entry("getCatalogTerm", "project"),
      Map.entry("getSchemaTerm", "schema"),
      Map.entry("getProcedureTerm", "procedure"),
      Map.entry("getMaxStatementLength", 1 << 20),
      Map.entry("getMaxConnections", 0),
      Map.entry("getMaxColumnsInSelect", 0),
      Map.entry("getDefaultTransactionIsolation", Connection.TRANSACTION_NONE),
      Map.entry("isCatalogAtStart", true),
      Map.entry("isReadOnly", false),
      Map.entry("doesMaxRowSizeIncludeBlobs", true),
      Map.entry("nullPlusNonNullIsNull", true),
      Map.entry("supportsBatchUpdates", true),
      Map.entry("supportsCatalogsInDataManipulation", true),
      Map.entry("supportsCatalogsInTableDefinitions", true),
      Map.entry("supportsColumnAliasing", true),
      Map.entry("supportsConvert", true),
      Map.entry("supportsCorrelatedSubqueries", true),
      Map.entry("supportsExpressionsInOrderBy", true),
      Map.entry("supportsFullOuterJoins", true),
      Map.entry("supportsGroupBy", true),
      Map.entry("supportsGroupByBeyondSelect", true),
      Map.entry("supportsGroupByUnrelated", true),
      Map.entry("supportsLikeEscapeClause", true),
      Map.entry("supportsMixedCaseQuotedIdentifiers", true),
      Map.entry("supportsNonNullableColumns", true),
      Map.entry("supportsOrderByUnrelated", true),
      Map.entry("supportsOuterJoins", true),
      Map.entry("supportsSchemasInDataManipulation", true),
      Map.entry("supportsSchemasInTableDefinitions", true),
      Map.entry("supportsSelectForUpdate", false),
      Map.entry("supportsStoredProcedures", false),
      Map.entry("supportsSubqueriesInExists", true),
      Map.entry("supportsSubqueriesInIns", true),
      Map.entry("supportsTableCorrelationNames", true),
      Map.entry("supportsTransactions", false),
      Map.entry("supportsSavepoints", false),
      Map.entry("supportsMultipleTransactions", false),
      Map.entry("supportsUnion", true),
      Map.entry("supportsUnionAll", true),
      // Driver: 18.3 never asks for these; the constants are those of the library that it is made
      // with. The server says lower case, and NULL sorted high.
      Map.entry("storesUpperCaseIdentifiers", true),
      Map.entry("storesLowerCaseIdentifiers", false),
      Map.entry("nullsAreSortedAtEnd", true),
      Map.entry("nullsAreSortedHigh", false)));

  @Test
  void everyGetterAnswers() {
    List<Method> getters =
        Arrays.stream(DatabaseMetaData.class.getMethods()).filter(method -> method.getParameterCount() == 0).toList();
    assertTrue(getters.size() > 130);
    assertAll(getters.stream().map(method -> () -> {
      Object answer = ask(method);
      assertNotNull(answer, method.getName());
      if (answer instanceof ResultSet result) result.close();
      Object expected = EXPECTED.get(method.getName());
      if (expected != null) assertEquals(expected, answer, method.getName());
    }));
  }

  private Object ask(Method method) throws Exception {
    try {
      return method.invoke(about);
    } catch (InvocationTargetException error) {
      throw error.getCause() instanceof Exception cause ? cause : error;
    }
  }

  @Test
  void noExpectedGetterIsMisspelt() {
    Set<String> names = new HashSet<>();
    for (Method method : DatabaseMetaData.class.getMethods()) if (method.getParameterCount() == 0) names.add(method.getName());
    assertTrue(names.containsAll(EXPECTED.keySet()));
  }

  @Test
  void functionsAndKeywordsAreListed() throws SQLException {
    assertTrue(words(about.getNumericFunctions()).containsAll(Set.of("abs", "sqrt", "round", "log10")));
    assertTrue(words(about.getStringFunctions()).containsAll(Set.of("upper", "substr", "regexp_like")));
    assertTrue(words(about.getTimeDateFunctions()).containsAll(Set.of("now", "date_trunc", "to_timestamp")));
    assertTrue(words(about.getSystemFunctions()).containsAll(Set.of("coalesce", "sum", "dicom_tags", "ecg_rpeaks")));
    assertTrue(words(about.getSQLKeywords()).containsAll(Set.of("SELECT", "WHERE", "CREATE", "EXPLAIN")));
  }

  private static Set<String> words(String list) {
    return new HashSet<>(List.of(list.split(", ")));
  }

  @Test
  void levelsOfWhatIsSupported() throws SQLException {
    assertTrue(about.supportsResultSetType(ResultSet.TYPE_FORWARD_ONLY));
    assertFalse(about.supportsResultSetType(ResultSet.TYPE_SCROLL_INSENSITIVE));
    assertTrue(about.supportsResultSetConcurrency(ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_READ_ONLY));
    assertFalse(about.supportsResultSetConcurrency(ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_UPDATABLE));
    assertTrue(about.supportsTransactionIsolationLevel(Connection.TRANSACTION_NONE));
    // Of transactions that the protocol begins, which this driver does not.
    assertTrue(about.supportsTransactionIsolationLevel(Connection.TRANSACTION_READ_COMMITTED));
    assertFalse(about.supportsTransactionIsolationLevel(Connection.TRANSACTION_SERIALIZABLE));
    // Driver: its library has not written this one.
    assertEquals(
        "todo: implement this method",
        assertThrows(RuntimeException.class, () -> about.supportsResultSetHoldability(1)).getMessage());
  }

  @Test
  void typesConvert() throws SQLException {
    assertTrue(about.supportsConvert(Types.INTEGER, Types.VARCHAR));
    assertTrue(about.supportsConvert(Types.VARCHAR, Types.DATE));
    assertFalse(about.supportsConvert(Types.BINARY, Types.DATE));
  }

  @Test
  void schemasByPattern() throws SQLException {
    String[] columns = {"TABLE_CATALOG", "TABLE_SCHEM"};
    List<String> all =
        List.of("readmission|hub", "readmission|information_schema", "readmission|snds", "readmission|space");
    assertEquals(all, Hub.rows(about.getSchemas(), columns));
    assertEquals(all, Hub.rows(about.getSchemas("readmission", "%"), columns));
    assertEquals(List.of("readmission|snds", "readmission|space"), Hub.rows(about.getSchemas(null, "s%"), columns));
    assertEquals(List.of("readmission|snds"), Hub.rows(about.getSchemas(null, "_nds"), columns));
    assertEquals(List.of(), Hub.rows(about.getSchemas("ecg_ai", null), columns));
  }

  @Test
  void tablesByPatternAndType() throws SQLException {
    String[] columns = {"TABLE_CAT", "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE"};
    List<String> stays =
        List.of("readmission|snds|t_mco_a|TABLE", "readmission|snds|t_mco_b|TABLE", "readmission|snds|t_mco_d|TABLE");
    String[] tables = {"TABLE", "VIEW"};
    assertEquals(stays, Hub.rows(about.getTables("readmission", "snds", "t_mco__", tables), columns));
    assertEquals(stays, Hub.rows(about.getTables(null, "snds", "t\\_mco\\__", null), columns));
    assertEquals(List.of(), Hub.rows(about.getTables(null, "snds", "t\\_mco\\_\\_", null), columns));
    assertEquals(List.of(), Hub.rows(about.getTables(null, "snds", "t_mco_b", new String[] {"VIEW"}), columns));
    assertEquals(List.of(), Hub.rows(about.getTables("ecg_ai", "%", "%", null), columns));
    assertEquals(
        List.of("readmission|hub|usage|SYSTEM TABLE"),
        Hub.rows(about.getTables("readmission", "hub", "usage", new String[] {"SYSTEM TABLE"}), columns));
    assertEquals(
        List.of("SYSTEM TABLE", "TABLE", "VIEW"), Hub.rows(about.getTableTypes(), "TABLE_TYPE"));
  }

  @Test
  void aViewOfTheSpaceIsListed() throws SQLException {
    Hub.update(connection, "CREATE OR REPLACE VIEW space.jdbc_view AS SELECT dgn_pal FROM snds.t_mco_b");
    try {
      String[] columns = {"TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE"};
      assertEquals(
          List.of("space|jdbc_view|VIEW"),
          Hub.rows(about.getTables("readmission", "space", "jdbc\\_view", new String[] {"VIEW"}), columns));
      assertEquals(
          List.of("dgn_pal|VARCHAR"),
          Hub.rows(about.getColumns(null, "space", "jdbc\\_view", "%"), "COLUMN_NAME", "TYPE_NAME"));
    } finally {
      Hub.update(connection, "DROP VIEW space.jdbc_view");
    }
  }

  @Test
  void columnsWithTypesNullsAndRemarks() throws SQLException {
    assertEquals(
        List.of(
            "1|ben_idt|12|VARCHAR|65536|null|null|0|NO|Identifiant du bénéficiaire",
            "2|ben_nai_ann|4|INTEGER|10|0|10|0|NO|Année de naissance",
            "3|ben_nai_moi|4|INTEGER|10|0|10|0|NO|Mois de naissance (1 à 12)",
            "4|ben_sex_cod|4|INTEGER|10|0|10|0|NO|Sexe : 1 homme, 2 femme",
            "5|ben_res_dpt|12|VARCHAR|65536|null|null|0|NO|Département de résidence (2A, 75, 974…)",
            // Masked for this project, so it may be NULL.
            "6|ben_res_com|12|VARCHAR|65536|null|null|1|YES|Commune de résidence (code INSEE, 5 caractères)",
            "7|ben_rng_gem|4|INTEGER|10|0|10|0|NO|Rang de naissance"),
        Hub.rows(
            about.getColumns("readmission", "snds", "ir\\_ben\\_r", "%"), "ORDINAL_POSITION", "COLUMN_NAME",
            "DATA_TYPE", "TYPE_NAME", "COLUMN_SIZE", "DECIMAL_DIGITS", "NUM_PREC_RADIX", "NULLABLE", "IS_NULLABLE",
            "REMARKS"));
    assertEquals(
        List.of("prs_pai_mnt|3|DECIMAL|12|2|10|NO"),
        Hub.rows(
            about.getColumns(null, "snds", "er_prs_f", "prs_pai_mnt"), "COLUMN_NAME", "DATA_TYPE", "TYPE_NAME",
            "COLUMN_SIZE", "DECIMAL_DIGITS", "NUM_PREC_RADIX", "IS_AUTOINCREMENT"));
  }

  @Test
  void columnsByPattern() throws SQLException {
    assertEquals(
        List.of("2|ben_nai_ann", "3|ben_nai_moi"),
        Hub.rows(about.getColumns(null, "snds", "ir_ben_r", "ben_nai%"), "ORDINAL_POSITION", "COLUMN_NAME"));
    // Driver: it filters columns itself, and does not know the escape that it tells clients of.
    assertEquals(List.of(), Hub.rows(about.getColumns(null, "snds", "ir_ben_r", "ben\\_nai%"), "COLUMN_NAME"));
    assertEquals(List.of(), Hub.rows(about.getColumns("ecg_ai", "%", "%", "%"), "COLUMN_NAME"));
  }

  @Test
  void primaryKeys() throws SQLException {
    String[] columns = {"TABLE_CAT", "TABLE_SCHEM", "TABLE_NAME", "COLUMN_NAME", "KEY_SEQ", "PK_NAME"};
    assertEquals(
        List.of(
            "readmission|snds|t_mco_b|eta_num|1|t_mco_b_pkey", "readmission|snds|t_mco_b|rsa_num|2|t_mco_b_pkey"),
        Hub.rows(about.getPrimaryKeys("readmission", "snds", "t_mco_b"), columns));
    assertEquals(List.of(), Hub.rows(about.getPrimaryKeys("readmission", "hub", "usage"), columns));
    assertEquals(List.of(), Hub.rows(about.getPrimaryKeys("linked", "snds", "t_mco_b"), columns));
  }

  @Test
  void foreignKeys() throws SQLException {
    String[] columns = {
      "PKTABLE_NAME", "PKCOLUMN_NAME", "FKTABLE_NAME", "FKCOLUMN_NAME", "KEY_SEQ", "FK_NAME", "PK_NAME", "UPDATE_RULE", "DELETE_RULE"
    };
    String of = "t_mco_d_eta_num_rsa_num_fkey|t_mco_b_pkey|3|3";
    List<String> stays =
        List.of("t_mco_b|eta_num|t_mco_d|eta_num|1|" + of, "t_mco_b|rsa_num|t_mco_d|rsa_num|2|" + of);
    List<String> imported = new ArrayList<>(stays);
    imported.add(0, "ir_cim_v|cim_cod|t_mco_d|ass_dgn|1|t_mco_d_ass_dgn_fkey|ir_cim_v_pkey|3|3");
    assertEquals(imported, Hub.rows(about.getImportedKeys("readmission", "snds", "t_mco_d"), columns));
    assertEquals(
        stays,
        Hub.rows(about.getCrossReference("readmission", "snds", "t_mco_b", "readmission", "snds", "t_mco_d"), columns));
    assertEquals(
        List.of("t_mco_a|1", "t_mco_a|2", "t_mco_d|1", "t_mco_d|2"),
        Hub.rows(about.getExportedKeys("readmission", "snds", "t_mco_b"), "FKTABLE_NAME", "KEY_SEQ"));
  }

  /** Driver: it does not ask for these, although Flight SQL could say of types at least. */
  @Test
  void whatTheDriverAnswersAlone() throws SQLException {
    String[] table = {"readmission", "snds", "t_mco_b"};
    List<ResultSet> empty = List.of(
        about.getTypeInfo(), about.getIndexInfo(table[0], table[1], table[2], false, true),
        about.getProcedures(table[0], null, "%"), about.getProcedureColumns(table[0], null, "%", "%"),
        about.getFunctions(table[0], null, "%"), about.getFunctionColumns(table[0], null, "%", "%"),
        about.getUDTs(table[0], null, "%", null), about.getAttributes(table[0], null, "%", "%"),
        about.getSuperTypes(table[0], null, "%"), about.getSuperTables(table[0], null, "%"),
        about.getBestRowIdentifier(table[0], table[1], table[2], DatabaseMetaData.bestRowSession, true),
        about.getVersionColumns(table[0], table[1], table[2]), about.getTablePrivileges(table[0], table[1], table[2]),
        about.getColumnPrivileges(table[0], table[1], table[2], "%"),
        about.getPseudoColumns(table[0], table[1], table[2], "%"), about.getClientInfoProperties());
    for (ResultSet result : empty) {
      assertTrue(result.getMetaData().getColumnCount() > 0);
      assertFalse(result.next());
      result.close();
    }
  }
}
