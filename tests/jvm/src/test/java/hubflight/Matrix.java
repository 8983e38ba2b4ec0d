package hubflight;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.*;
import java.util.*;
import org.junit.jupiter.api.extension.*;

/** Writes what works with this driver: feature → `pass`, or why not. */
public final class Matrix implements TestWatcher, BeforeAllCallback, ExtensionContext.Store.CloseableResource {
  private static final Map<String, String> OUTCOMES = Collections.synchronizedMap(new TreeMap<>());

  @Override
  public void beforeAll(ExtensionContext context) {
    context.getRoot().getStore(ExtensionContext.Namespace.GLOBAL).getOrComputeIfAbsent(Matrix.class);
  }

  @Override
  public void testSuccessful(ExtensionContext context) {
    note(context, "pass");
  }

  @Override
  public void testDisabled(ExtensionContext context, Optional<String> reason) {
    note(context, reason.orElse("disabled"));
  }

  @Override
  public void testFailed(ExtensionContext context, Throwable cause) {
    note(context, "fail: " + cause.getMessage());
  }

  private static void note(ExtensionContext context, String outcome) {
    // `preparesAndBinds` → `prepares and binds`; the cases of a table have their own names.
    String method = context.getRequiredTestMethod().getName().replaceAll("([A-Z])", " $1").toLowerCase(Locale.ROOT);
    String display = context.getDisplayName();
    boolean plain = display.equals(context.getRequiredTestMethod().getName() + "()");
    OUTCOMES.put(
        context.getRequiredTestClass().getSimpleName() + ": " + method + (plain ? "" : ": " + display), outcome);
  }

  /** At the end of all tests. */
  @Override
  public void close() {
    Path file = Path.of(System.getProperty("matrix.file"));
    StringJoiner lines = new StringJoiner(",\n", "{\n", "\n}\n");
    OUTCOMES.forEach((feature, outcome) -> lines.add("  " + quoted(feature) + ": " + quoted(outcome)));
    try {
      Files.createDirectories(file.getParent());
      Files.writeString(file, lines.toString());
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static String quoted(String text) {
    return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replaceAll("\\p{Cntrl}", " ") + '"';
  }
}
