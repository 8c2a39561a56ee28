// Random values through pgjdbc: read in text and in binary they are what PostgreSQL gives for the same rows, and copied through the
// driver they stay equal. Usage: java -cp … Values.java COUNT URL POSTGRES_URL, after values.py has filled random_values.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.OffsetDateTime;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

public class Values {
    static String all;
    static final List<String> TEXT_AND_BINARY = List.of("preferQueryMode=simple", "prepareThreshold=-1");
    static final int COLUMNS = 22;

    static void readSame(String url, String postgresUrl, String mode) throws Exception {
        try (Connection connection = DriverManager.getConnection(url + "&" + mode);
             Connection postgres = DriverManager.getConnection(postgresUrl + "&" + mode);
             PreparedStatement here = connection.prepareStatement(all);
             PreparedStatement there = postgres.prepareStatement(all)) {
            ResultSet found = here.executeQuery();
            ResultSet expected = there.executeQuery();
            int count = 0;
            while (expected.next()) {
                found.next();
                for (int column = 1; column <= COLUMNS; column++) {
                    String value = shown(found, column);
                    String wanted = shown(expected, column);
                    if (!Objects.equals(value, wanted)) {
                        throw new AssertionError(mode + ": column " + column + ": " + value + " is not " + wanted);
                    }
                }
                count++;
            }
            if (count == 0 || found.next()) {
                throw new AssertionError(mode + ": " + count + " rows");
            }
        }
    }

    static String shown(ResultSet rows, int column) throws Exception {
        return switch (rows.getMetaData().getColumnTypeName(column)) {
            case "bytea" -> Arrays.toString(rows.getBytes(column));
            default -> rows.getString(column);
        };
    }

    static Object value(ResultSet rows, int column) throws Exception {
        return switch (rows.getMetaData().getColumnTypeName(column)) {
            case "date" -> rows.getObject(column, LocalDate.class);
            case "time" -> rows.getObject(column, LocalTime.class);
            case "timestamp" -> rows.getObject(column, LocalDateTime.class);
            case "timestamptz" -> rows.getObject(column, OffsetDateTime.class);
            default -> rows.getObject(column);
        };
    }

    static void copySame(String url, String mode) throws Exception {
        try (Connection connection = DriverManager.getConnection(url + "&" + mode);
             Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS random_copies");
            statement.execute("CREATE TABLE random_copies (id INT PRIMARY KEY, b BOOLEAN, i2 SMALLINT, i4 INTEGER, i8 BIGINT, f4 REAL, "
                + "f8 DOUBLE PRECISION, n NUMERIC(30,10), t TEXT, ba BYTEA, d DATE, tm TIME, ts TIMESTAMP, tz TIMESTAMPTZ, iv INTERVAL, "
                + "u UUID, js JSONB, ia INTEGER[], ta TEXT[], da DOUBLE PRECISION[], na NUMERIC(30,10)[], tza TIMESTAMPTZ[])");
            connection.setAutoCommit(false);
            String marks = "?" + ", ?".repeat(COLUMNS - 1);
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO random_copies VALUES (" + marks + ")");
                 ResultSet rows = statement.executeQuery(all)) {
                while (rows.next()) {
                    for (int column = 1; column <= COLUMNS; column++) {
                        insert.setObject(column, value(rows, column));
                    }
                    insert.addBatch();
                }
                insert.executeBatch();
            }
            connection.commit();
            connection.setAutoCommit(true);
            for (int column = 2; column <= COLUMNS; column++) {
                String name = columnName(connection, column);
                ResultSet rows = statement.executeQuery("SELECT o." + name + "::text, c." + name + "::text FROM random_values AS o JOIN "
                    + "random_copies AS c ON c.id = o.id WHERE o." + name + "::text IS DISTINCT FROM c." + name + "::text LIMIT 1");
                if (rows.next()) {
                    throw new AssertionError(mode + ": " + name + ": " + rows.getString(2) + " is not " + rows.getString(1));
                }
            }
            ResultSet counts = statement.executeQuery("SELECT (SELECT count(*) FROM random_copies), (SELECT count(*) FROM (" + all + ") AS o)");
            counts.next();
            if (counts.getInt(1) != counts.getInt(2)) {
                throw new AssertionError(mode + ": " + counts.getInt(1) + " copies");
            }
        }
    }

    static String columnName(Connection connection, int column) throws Exception {
        try (Statement statement = connection.createStatement();
             ResultSet rows = statement.executeQuery("SELECT * FROM random_copies LIMIT 0")) {
            return rows.getMetaData().getColumnName(column);
        }
    }

    public static void main(String[] arguments) throws Exception {
        all = "SELECT * FROM random_values WHERE id < " + Integer.parseInt(arguments[0]) + " ORDER BY id";
        for (String mode : TEXT_AND_BINARY) {
            readSame(arguments[1], arguments[2], mode);
            System.out.println("ok read with " + mode);
            copySame(arguments[1], mode);
            System.out.println("ok copied with " + mode);
        }
    }
}
