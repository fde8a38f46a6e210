/* Lines of text in, lines of text out, by model.ids.tflite and LiteRT's C API; no Python.

       litert [--stats] [--cache FOLDER] MODEL VOCABULARY < lines
       litert --tokenize VOCABULARY < lines of text > lines of ids
       litert --detokenize VOCABULARY < lines of ids > lines of text

   It cuts and joins text itself, by the rules of keras_transformer/text/wordpiece.py. The wheel
   ai-edge-litert holds libLiteRt.so without headers, so what is used of litert/c is declared here. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { PADDING, UNKNOWN, BEGIN, END };
/* Target tokens that there is room for: by default as many as the source has and 51, otherwise what
   `export --max-length` says. LiteRT does not know the number before it has run, and does not check
   that the buffer is large enough. */
enum { EXTRA_LENGTH = 51, MOST = 1 << 16 };
enum { ALIGNMENT = 64 };

/* --- LiteRT 2 ----------------------------------------------------------------------------------*/

enum { FLOAT32 = 1, INT32 = 2, CPU = 1 };
typedef struct {
  unsigned rank : 7, has_strides : 1;
  int32_t dimensions[8];
  uint32_t strides[8];
} Layout;
typedef struct {
  int type;
  Layout layout;
} TensorType;

int LiteRtCreateEnvironment(int count, const void *options, void **environment);
int LiteRtCreateModelFromFile(void *environment, const char *path, void **model);
int LiteRtGetNumModelSignatures(void *model, size_t *count);
int LiteRtGetModelSignature(void *model, size_t index, void **signature);
int LiteRtGetSignatureKey(void *signature, const char **key);
int LiteRtGetNumSignatureOutputs(void *signature, size_t *count);
int LiteRtGetSignatureOutputName(void *signature, size_t index, const char **name);
int LiteRtCreateOptions(void **options);
int LiteRtSetOptionsHardwareAccelerators(void *options, int accelerators);
int LiteRtCreateOpaqueOptions(const char *kind, void *text, void (*free)(void *), void **opaque);
int LiteRtAddOpaqueOptions(void *options, void *opaque);
int LiteRtCreateCompiledModel(void *environment, void *model, void *options, void **compiled);
int LiteRtCompiledModelResizeInputTensor(void *compiled, size_t signature, size_t input,
                                         const int *dimensions, size_t rank);
int LiteRtGetCompiledModelOutputTensorLayouts(void *compiled, size_t signature, size_t count,
                                              Layout *layouts, bool update);
int LiteRtCreateTensorBufferFromHostMemory(const TensorType *type, void *memory, size_t size,
                                           void (*free)(void *), void **buffer);
void LiteRtDestroyTensorBuffer(void *buffer);
int LiteRtRunCompiledModel(void *compiled, size_t signature, size_t input_count, void **inputs,
                           size_t output_count, void **outputs);

static void die(const char *what, const char *which) {
  fprintf(stderr, "litert: %s%s\n", what, which);
  exit(1);
}

static void check(int status, const char *what) {
  if (status) die("LiteRT fails to ", what);
}

static void *allocate(size_t size) {
  void *memory = aligned_alloc(ALIGNMENT, (size + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
  if (!memory) die("no memory", "");
  return memory;
}

/* --- Text and pieces ---------------------------------------------------------------------------*/

typedef struct {
  const char *text; /* without ## */
  size_t length;
  int id;
  bool continues;
} Piece;

typedef struct {
  Piece *pieces; /* in the order of bytes */
  size_t count, longest;
} Table;

/* What may begin a word, and what may continue one. Special tokens but [UNK] are in neither: text
   can't give their ids. */
static Table first, rest;
static Piece *by_id;
static int size;

static bool is_space(char c) { return memchr("\t\n\v\f\r ", c, 6); }

static int compare(const void *one, const void *other) {
  const Piece *a = one, *b = other;
  int order = memcmp(a->text, b->text, a->length < b->length ? a->length : b->length);
  return order ? order : (a->length > b->length) - (a->length < b->length);
}

static void add(Table *table, Piece piece) {
  table->pieces[table->count++] = piece;
  if (piece.length > table->longest) table->longest = piece.length;
}

static void read_vocabulary(const char *path) {
  static const char *special[] = {"[PAD]", "[UNK]", "[BOS]", "[EOS]"};
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) die("can't read ", path);
  size_t bytes = ftell(file);
  rewind(file);
  char *text = allocate(bytes + 1);
  if (fread(text, 1, bytes, file) != bytes) die("can't read ", path);
  fclose(file);
  if (bytes && text[bytes - 1] != '\n') text[bytes++] = '\n';
  for (size_t i = 0; i < bytes; i++) size += text[i] == '\n';
  by_id = allocate(size * sizeof(Piece));
  first.pieces = allocate(size * sizeof(Piece));
  rest.pieces = allocate(size * sizeof(Piece));
  for (int id = 0; id < size; id++) {
    char *end = memchr(text, '\n', bytes);
    Piece piece = {text, end - text, id, false};
    bytes -= end + 1 - text;
    text = end + 1;
    if (piece.length && end[-1] == '\r') piece.length--;
    if (id <= END && (piece.length != 5 || memcmp(piece.text, special[id], 5)))
      die("not a vocabulary: ", path);
    piece.continues = piece.length > 2 && !memcmp(piece.text, "##", 2);
    if (piece.continues) piece.text += 2, piece.length -= 2;
    by_id[id] = piece;
    if (piece.continues) add(&rest, piece);
    else if (id > END || id == UNKNOWN) add(&first, piece);
  }
  if (size <= END) die("not a vocabulary: ", path);
  qsort(first.pieces, first.count, sizeof(Piece), compare);
  qsort(rest.pieces, rest.count, sizeof(Piece), compare);
}

static const Piece *longest(const Table *table, const char *text, size_t length) {
  Piece key = {text, length < table->longest ? length : table->longest, 0, false};
  for (; key.length; key.length--) {
    const Piece *found = bsearch(&key, table->pieces, table->count, sizeof(Piece), compare);
    if (found) return found;
  }
  return NULL;
}

static size_t spell(const char *word, size_t length, int32_t *ids) {
  size_t count = 0;
  for (size_t at = 0; at < length;) {
    const Piece *piece = longest(at ? &rest : &first, word + at, length - at);
    if (!piece) return ids[0] = UNKNOWN, 1;
    ids[count++] = piece->id;
    at += piece->length;
  }
  return count;
}

/* Cuts a text into at most as many ids as it has bytes. */
static size_t tokenize(const char *text, size_t length, int32_t *ids) {
  size_t count = 0;
  for (size_t at = 0; at < length;) {
    size_t end = at;
    while (end < length && !is_space(text[end])) end++;
    if (end > at) count += spell(text + at, end - at, ids + count);
    at = end + 1;
  }
  return count;
}

static void print(const int32_t *ids, size_t count) {
  bool begun = false;
  for (size_t i = 0; i < count; i++) {
    if (ids[i] == PADDING || ids[i] == BEGIN || ids[i] == END) continue;
    if (ids[i] < 0 || ids[i] >= size) die("the model gives ids that the vocabulary lacks", "");
    const Piece *piece = &by_id[ids[i]];
    /* Before a word, and, as tf.text has it, before a continuation that continues nothing. */
    if (piece->continues != begun) putchar(' ');
    fwrite(piece->text, 1, piece->length, stdout);
    begun = true;
  }
  putchar('\n');
}

/* --- The model ---------------------------------------------------------------------------------*/

static void *compiled;
static size_t ids_output;

/* Lets XNNPACK keep the weights, in its own order, in a file that it maps when it starts again. It
   does not check that the file is of the same weights, so the name tells one model from another. */
static void keep_weights(void *options, const char *folder, const char *path) {
  struct stat model;
  if (stat(path, &model)) die("LiteRT fails to load the model", "");
  if (strpbrk(folder, "\"\\\n")) die("--cache can't have quotes or backslashes: ", folder);
  const size_t room = strlen(folder) + 128;
  char *text = allocate(room);
  snprintf(text, room, "weight_cache_file_path = \"%s/%llx-%llx-%lx.xnnpack\"\n", folder,
           (long long)model.st_size, (long long)model.st_mtim.tv_sec, model.st_mtim.tv_nsec);
  void *opaque;
  check(LiteRtCreateOpaqueOptions("xnnpack", text, free, &opaque), "make options for XNNPACK");
  check(LiteRtAddOpaqueOptions(options, opaque), "add options for XNNPACK");
}

static void load(const char *path, const char *cache) {
  void *environment, *model, *signature, *options;
  size_t signatures, outputs;
  const char *name;
  check(LiteRtCreateEnvironment(0, NULL, &environment), "start");
  check(LiteRtCreateModelFromFile(environment, path, &model), "load the model");
  check(LiteRtGetNumModelSignatures(model, &signatures), "count signatures");
  if (signatures != 1) die("not a model from ids to ids: ", path);
  check(LiteRtGetModelSignature(model, 0, &signature), "read the signature");
  check(LiteRtGetSignatureKey(signature, &name), "read the signature's name");
  check(LiteRtGetNumSignatureOutputs(signature, &outputs), "count outputs");
  if (strcmp(name, "ids") || outputs != 2) die("not a model from ids to ids: ", path);
  check(LiteRtGetSignatureOutputName(signature, 0, &name), "read an output's name");
  ids_output = strcmp(name, "ids") != 0;
  check(LiteRtCreateOptions(&options), "make options");
  check(LiteRtSetOptionsHardwareAccelerators(options, CPU), "choose the processor");
  if (cache) keep_weights(options, cache, path);
  check(LiteRtCreateCompiledModel(environment, model, options, &compiled), "compile the model");
}

static void *wrap(int type, int columns, void *memory) {
  TensorType tensor = {type, {2, 0, {1, columns}, {0}}};
  void *buffer;
  check(LiteRtCreateTensorBufferFromHostMemory(&tensor, memory, columns * 4, NULL, &buffer),
        "make a buffer");
  return buffer;
}

/* Runs the model on one row and returns the number of target ids; the caller frees them. */
static size_t run(int32_t *ids, size_t count, int32_t **target) {
  if (!count) ids[count++] = PADDING; /* LiteRT's C API takes no shape with a zero. */
  const int shape[] = {1, count};
  const int room = (count > MOST ? count : MOST) + EXTRA_LENGTH;
  int32_t *output = allocate(room * sizeof *output);
  float *scores = allocate(room * sizeof *scores);
  check(LiteRtCompiledModelResizeInputTensor(compiled, 0, 0, shape, 2), "resize the input");
  void *input = wrap(INT32, count, ids), *outputs[2];
  outputs[ids_output] = wrap(INT32, room, output);
  outputs[!ids_output] = wrap(FLOAT32, room, scores);
  check(LiteRtRunCompiledModel(compiled, 0, 1, &input, 2, outputs), "run the model");
  Layout layouts[2];
  check(LiteRtGetCompiledModelOutputTensorLayouts(compiled, 0, 2, layouts, false), "tell shapes");
  const Layout *layout = &layouts[ids_output]; /* (1, T), or (1, N, T) of which the first is best */
  int total = 1;
  for (unsigned i = 0; i < layout->rank; i++) total *= layout->dimensions[i];
  if (total > room) die("the model's output is too long for this program", "");
  LiteRtDestroyTensorBuffer(input);
  LiteRtDestroyTensorBuffer(outputs[0]);
  LiteRtDestroyTensorBuffer(outputs[1]);
  free(scores);
  *target = output;
  return layout->dimensions[layout->rank - 1];
}

/* --- The program -------------------------------------------------------------------------------*/

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

/* Memory of this process: VmHWM, the most there was, or RssAnon, what is no mapped file. */
static double megabytes(const char *field) {
  char line[256];
  long found = -1;
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status))
    if (!strncmp(line, field, strlen(field))) found = strtol(line + strlen(field) + 1, NULL, 10);
  if (status) fclose(status);
  return found / 1e3;
}

static void translate_line(char *line, size_t length) {
  int32_t *ids = allocate((length + 1) * sizeof *ids), *target;
  size_t count = run(ids, tokenize(line, length, ids), &target);
  print(target, count);
  free(target);
  free(ids);
}

static void tokenize_line(char *line, size_t length) {
  int32_t *ids = allocate((length + 1) * sizeof *ids);
  size_t count = tokenize(line, length, ids);
  for (size_t i = 0; i < count; i++) printf(i ? " %d" : "%d", ids[i]);
  putchar('\n');
  free(ids);
}

static void detokenize_line(char *line, size_t length) {
  int32_t *ids = allocate((length + 1) * sizeof *ids);
  size_t count = 0;
  for (char *end; ids[count] = strtol(line, &end, 10), end != line; line = end) count++;
  print(ids, count);
  free(ids);
}

static size_t for_each_line(void (*act)(char *, size_t)) {
  char *line = NULL;
  size_t capacity = 0, lines = 0;
  for (ssize_t length; (length = getline(&line, &capacity, stdin)) >= 0; lines++) act(line, length);
  free(line);
  return lines;
}

int main(int count, char **arguments) {
  bool stats = false;
  const char *cache = NULL;
  for (; count > 1; count--, arguments++) {
    if (!strcmp(arguments[1], "--stats")) stats = true;
    else if (count > 2 && !strcmp(arguments[1], "--cache")) {
      cache = arguments[2];
      count--, arguments++;
    } else break;
  }
  if (count != 3) {
    die("usage: litert [--stats] [--cache FOLDER] MODEL VOCABULARY < lines", "");
  } else if (!strcmp(arguments[1], "--tokenize")) {
    read_vocabulary(arguments[2]);
    for_each_line(tokenize_line);
  } else if (!strcmp(arguments[1], "--detokenize")) {
    read_vocabulary(arguments[2]);
    for_each_line(detokenize_line);
  } else {
    const double begin = milliseconds();
    load(arguments[1], cache);
    read_vocabulary(arguments[2]);
    const double ready = milliseconds();
    const double loaded = megabytes("VmHWM");
    const size_t lines = for_each_line(translate_line);
    if (stats)
      fprintf(stderr,
              "ready after %.1f ms with %.1f MB; %zu lines, %.2f ms each, peak %.1f MB, "
              "%.1f MB of its own\n",
              ready - begin, loaded, lines, lines ? (milliseconds() - ready) / lines : 0.0,
              megabytes("VmHWM"), megabytes("RssAnon"));
  }
  return 0;
}
