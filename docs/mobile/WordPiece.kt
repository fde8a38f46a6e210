import java.io.File

/**
 * Cuts text into the ids that model.ids.tflite takes, and joins the ids that it gives to text.
 *
 * @param vocabulary the lines of vocab.txt, in their order
 */
class WordPiece(vocabulary: List<String>) {
    private class Piece(val text: String, val continues: Boolean)

    private val pieces = vocabulary.map {
        val continues = it.startsWith("##") && it != "##"
        Piece(if (continues) it.substring(2) else it, continues)
    }

    // What may begin a word, and what may continue one. Text can't give the ids of special tokens
    // other than [UNK], so they are in neither.
    private val first = HashMap<String, Int>()
    private val rest = HashMap<String, Int>()
    private val longest = pieces.maxOf { it.text.length }

    init {
        require(vocabulary.take(4) == listOf("[PAD]", "[UNK]", "[BOS]", "[EOS]"))
        pieces.forEachIndexed { id, piece ->
            if (id !in LEFT_OUT) (if (piece.continues) rest else first)[piece.text] = id
        }
    }

    /** Returns the ids of a text, without begin or end token. */
    fun tokenize(text: String): IntArray =
        text.split(*WHITE_SPACE).filter { it.isNotEmpty() }.flatMap(::spell).toIntArray()

    /** Returns the text of ids; padding, begin and end tokens are left out. */
    fun detokenize(ids: IntArray): String = buildString {
        var begun = false
        for (id in ids) {
            if (id in LEFT_OUT) continue
            // Before a word, and, as in the graph, before a continuation that continues nothing.
            if (pieces[id].continues != begun) append(' ')
            append(pieces[id].text)
            begun = true
        }
    }

    /** Greedy longest match; a word that can't be spelled is one [UNK]. */
    private fun spell(word: String): List<Int> {
        val ids = ArrayList<Int>()
        var at = 0
        while (at < word.length) {
            val table = if (at == 0) first else rest
            val end = (minOf(word.length, at + longest) downTo at + 1)
                .firstOrNull { word.substring(at, it) in table } ?: return listOf(UNKNOWN)
            ids += table.getValue(word.substring(at, end))
            at = end
        }
        return ids
    }

    companion object {
        private const val UNKNOWN = 1
        private val LEFT_OUT = setOf(0, 2, 3) // [PAD] [BOS] [EOS]
        private val WHITE_SPACE = charArrayOf('\t', '\n', '\u000B', '\u000C', '\r', ' ')

        /** Reads vocab.txt. A piece may hold wider line separators, so this is not readLines(). */
        fun load(file: File) =
            WordPiece(file.readText().replace("\r\n", "\n").removeSuffix("\n").split("\n"))
    }
}
