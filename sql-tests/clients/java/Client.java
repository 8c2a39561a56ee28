// pgjdbc against a server: types both ways, metadata, cancelling, fifty connections. Usage: java -cp … Client.java URL
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.UUID;

public class Client {
    static final String SLOW =
        "SELECT count(*) FROM generate_series(1, 100000) AS a CROSS JOIN generate_series(1, 100000) AS b";

    static void check(Object found, Object expected, String what) {
        if (!Objects.deepEquals(found, expected)) {
            throw new AssertionError(what + ": " + found + " is not " + expected);
        }
    }

    static List<String> strings(ResultSet rows, String column) throws SQLException {
        List<String> values = new ArrayList<>();
        while (rows.next()) {
            values.add(rows.getString(column));
        }
        return values;
    }

    static void types(Connection connection) throws SQLException {
        OffsetDateTime time = OffsetDateTime.of(2026, 7, 1, 12, 30, 0, 1000, ZoneOffset.UTC);
        UUID uuid = UUID.fromString("6e47bc22-84ad-4303-8e7b-8ab08ac91cf1");
        BigDecimal number = new BigDecimal("12345678901234567890.0123456789");
        byte[] bytes = {0, 1, -2, -1};
        try (Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS client_java CASCADE");
            statement.execute("CREATE TABLE client_java (id INT PRIMARY KEY, b BOOLEAN, i8 BIGINT, f8 DOUBLE PRECISION, "
                + "n NUMERIC(30,10), t VARCHAR(40) NOT NULL, ba BYTEA, d DATE, tz TIMESTAMPTZ, ia INTEGER[], u UUID)");
            statement.execute("CREATE INDEX client_java_t ON client_java (t)");
            statement.execute("CREATE MATERIALIZED VIEW client_java_view AS SELECT t, count(*) AS n FROM client_java GROUP BY t");
        }
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO client_java VALUES (?,?,?,?,?,?,?,?,?,?,?)")) {
            for (int id = 1; id <= 20; id++) {
                insert.setInt(1, id);
                insert.setBoolean(2, true);
                insert.setLong(3, Long.MIN_VALUE);
                insert.setDouble(4, 0.1);
                insert.setBigDecimal(5, number);
                insert.setString(6, "it's \\ \"quoted\"\n\u00e9\u4e16");
                insert.setBytes(7, bytes);
                insert.setObject(8, LocalDate.of(1969, 12, 31));
                insert.setObject(9, time);
                insert.setArray(10, connection.createArrayOf("int4", new Integer[] {1, null, -3}));
                insert.setObject(11, uuid);
                insert.addBatch();
            }
            check(insert.executeBatch().length, 20, "batch");
        }
        try (PreparedStatement select = connection.prepareStatement("SELECT * FROM client_java WHERE id = ?")) {
            // pgjdbc changes to a named statement and binary results after five times
            for (int id = 1; id <= 8; id++) {
                select.setInt(1, id);
                ResultSet rows = select.executeQuery();
                check(rows.next(), true, "a row");
                check(rows.getBoolean("b"), true, "b");
                check(rows.getLong("i8"), Long.MIN_VALUE, "i8");
                check(rows.getDouble("f8"), 0.1, "f8");
                check(rows.getBigDecimal("n"), number, "n");
                check(rows.getString("t"), "it's \\ \"quoted\"\n\u00e9\u4e16", "t");
                check(rows.getBytes("ba"), bytes, "ba");
                check(rows.getObject("d", LocalDate.class), LocalDate.of(1969, 12, 31), "d");
                check(rows.getObject("tz", OffsetDateTime.class).toInstant(), time.toInstant(), "tz");
                check(Arrays.asList((Object[]) rows.getArray("ia").getArray()), Arrays.asList(1, null, -3), "ia");
                check(rows.getObject("u"), uuid, "u");
            }
        }
        System.out.println("ok types");
    }

    static void metadata(Connection connection) throws SQLException {
        DatabaseMetaData data = connection.getMetaData();
        check(strings(data.getTables(null, "public", "client_java%", null), "TABLE_TYPE"),
            List.of("INDEX", "INDEX", "MATERIALIZED VIEW", "TABLE"), "tables");
        check(strings(data.getColumns(null, "public", "client_java", "%"), "TYPE_NAME"),
            List.of("int4", "bool", "int8", "float8", "numeric", "varchar", "bytea", "date", "timestamptz", "_int4", "uuid"), "columns");
        check(strings(data.getColumns(null, "public", "client_java", "t"), "IS_NULLABLE"), List.of("NO"), "nullable");
        check(strings(data.getPrimaryKeys(null, "public", "client_java"), "COLUMN_NAME"), List.of("id"), "primary key");
        check(strings(data.getIndexInfo(null, "public", "client_java", false, true), "COLUMN_NAME"), List.of("id", "t"), "indexes");
        check(strings(data.getSchemas(), "TABLE_SCHEM").contains("public"), true, "schemas");
        System.out.println("ok introspection");
    }

    static void cancel(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            statement.executeQuery(SLOW);
            throw new AssertionError("not cancelled");
        } catch (SQLException error) {
            check(error.getSQLState(), "57014", error.getMessage());
        }
        System.out.println("ok cancel");
    }

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        try (Connection connection = DriverManager.getConnection(url)) {
            types(connection);
            metadata(connection);
            cancel(connection);
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(100);
                ResultSet rows = statement.executeQuery("SELECT * FROM generate_series(1, 1000) AS n");
                int count = 0;
                while (rows.next()) {
                    count++;
                }
                check(count, 1000, "fetched in pieces");
            }
            connection.commit();
        }
        List<Connection> pool = new ArrayList<>();
        for (int i = 0; i < 50; i++) {
            pool.add(DriverManager.getConnection(url));
        }
        for (Connection connection : pool) {
            try (ResultSet rows = connection.createStatement().executeQuery("SELECT 1")) {
                check(rows.next(), true, "pool");
            }
            connection.close();
        }
        System.out.println("ok pool");
    }
}
