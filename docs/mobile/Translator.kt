import java.io.File
import org.tensorflow.lite.Interpreter

/** Translates text by model.ids.tflite and vocab.txt, with LiteRT as it comes from Maven. */
class Translator(model: File, vocabulary: File, threads: Int) : AutoCloseable {
    private val pieces = WordPiece.load(vocabulary)
    private val interpreter = Interpreter(model, Interpreter.Options().setNumThreads(threads))

    fun translate(text: String): String {
        val ids = pieces.tokenize(text)
        if (ids.isEmpty()) return ""
        // The array's shape (1, S) resizes the input. The output's shape is known after the run, so
        // no array is handed over for it.
        interpreter.runSignature(mapOf("ids" to arrayOf(ids)), mapOf("ids" to null), "ids")
        val output = interpreter.getOutputTensorFromSignature("ids", "ids").asReadOnlyBuffer()
        val target = IntArray(output.remaining() / Int.SIZE_BYTES)
        output.asIntBuffer().get(target)
        return pieces.detokenize(target)
    }

    override fun close() = interpreter.close()
}
