import java.io.File
import java.io.PrintStream

/** Lines of text to lines of ids (`tokenize VOCABULARY`), or the other way (`detokenize VOCABULARY`). */
fun main(arguments: Array<String>) {
    val pieces = WordPiece.load(File(arguments[1]))
    val output = PrintStream(System.out, false, "UTF-8")
    // Not readLines(), which also ends lines at a lone carriage return.
    val lines = System.`in`.readBytes().decodeToString().removeSuffix("\n").split("\n")
    for (line in lines) {
        when (arguments[0]) {
            "tokenize" -> output.print(pieces.tokenize(line).joinToString(" "))
            else -> {
                val ids = line.split(" ").filter { it.isNotEmpty() }.map { it.toInt() }
                output.print(pieces.detokenize(ids.toIntArray()))
            }
        }
        output.print("\n")
    }
    output.flush()
}
