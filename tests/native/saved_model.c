/* Lines of text in, scores and texts out, by a SavedModel and TensorFlow's C API; no Python.

       saved_model FOLDER LIBRARY... < lines

   FOLDER holds saved_model.pb; each LIBRARY holds ops that the graph needs. A line of output is the
   score and the text that the signature serving_default gives, with a tab between. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

static void die(const char *what, const char *which) {
  fprintf(stderr, "saved_model: %s%s\n", what, which);
  exit(1);
}

static void check(const TF_Status *status) {
  if (TF_GetCode(status) != TF_OK) die(TF_Message(status), "");
}

/* --- What the MetaGraphDef says of signatures --------------------------------------------------*/

/* A protocol buffer is a sequence of fields; these are the numbers of those on the way to a name. */
enum { SIGNATURE_DEF = 5, INPUTS = 1, OUTPUTS = 2, KEY = 1, VALUE = 2, NAME = 1 };

typedef struct {
  const uint8_t *at, *end;
} Bytes;

static uint64_t varint(Bytes *bytes) {
  uint64_t value = 0;
  for (int shift = 0; bytes->at < bytes->end && shift < 64; shift += 7) {
    uint8_t byte = *bytes->at++;
    value |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) return value;
  }
  die("damaged MetaGraphDef", "");
  return 0;
}

/* Moves on to the next field of this number that holds bytes. */
static bool next(Bytes *bytes, unsigned number, Bytes *field) {
  while (bytes->at < bytes->end) {
    uint64_t tag = varint(bytes), length = 0;
    switch (tag & 7) {
      case 0: varint(bytes); break;
      case 1: length = 8; break;
      case 2: length = varint(bytes); break;
      case 5: length = 4; break;
      default: die("damaged MetaGraphDef", "");
    }
    if (length > (uint64_t)(bytes->end - bytes->at)) die("damaged MetaGraphDef", "");
    *field = (Bytes){bytes->at, bytes->at + length};
    bytes->at += length;
    if ((tag & 7) == 2 && tag >> 3 == number) return true;
  }
  return false;
}

/* Finds the value of a key in a map, which is a repeated message of key and value. */
static Bytes look_up(Bytes message, unsigned map, const char *key) {
  for (Bytes entry, name, value; next(&message, map, &entry);) {
    Bytes again = entry;
    if (next(&entry, KEY, &name) && (size_t)(name.end - name.at) == strlen(key) &&
        !memcmp(name.at, key, strlen(key)) && next(&again, VALUE, &value))
      return value;
  }
  die("the SavedModel's signature lacks ", key);
  return message;
}

static TF_Output find(TF_Graph *graph, Bytes signature, unsigned side, const char *key) {
  Bytes tensor = look_up(signature, side, key), name;
  if (!next(&tensor, NAME, &name)) die("no tensor for ", key);
  char operation[1024];
  snprintf(operation, sizeof operation, "%.*s", (int)(name.end - name.at), name.at);
  char *colon = strrchr(operation, ':');
  if (colon) *colon = 0;
  TF_Output output = {TF_GraphOperationByName(graph, operation), colon ? atoi(colon + 1) : 0};
  if (!output.oper) die("the graph lacks ", operation);
  return output;
}

/* --- The program -------------------------------------------------------------------------------*/

int main(int count, char **arguments) {
  if (count < 2) die("usage: saved_model FOLDER LIBRARY... < lines", "");
  TF_Status *status = TF_NewStatus();
  for (int i = 2; i < count; i++) {
    TF_LoadLibrary(arguments[i], status);
    check(status);
  }
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Buffer *meta_graph = TF_NewBuffer();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, arguments[1], tags, 1, graph,
                                                     meta_graph, status);
  check(status);
  const uint8_t *data = meta_graph->data;
  Bytes signature =
      look_up((Bytes){data, data + meta_graph->length}, SIGNATURE_DEF, "serving_default");
  const TF_Output input = find(graph, signature, INPUTS, "text");
  const TF_Output outputs[] = {find(graph, signature, OUTPUTS, "score"),
                               find(graph, signature, OUTPUTS, "text")};
  char *line = NULL;
  size_t capacity = 0;
  for (ssize_t length; (length = getline(&line, &capacity, stdin)) >= 0;) {
    if (length && line[length - 1] == '\n') length--;
    const int64_t one = 1;
    TF_Tensor *text = TF_AllocateTensor(TF_STRING, &one, 1, sizeof(TF_TString)), *results[2];
    TF_StringInit(TF_TensorData(text));
    TF_StringCopy(TF_TensorData(text), line, length);
    TF_SessionRun(session, NULL, &input, &text, 1, outputs, results, 2, NULL, 0, NULL, status);
    check(status);
    const TF_TString *target = TF_TensorData(results[1]);
    printf("%.9g\t", *(float *)TF_TensorData(results[0]));
    fwrite(TF_StringGetDataPointer(target), 1, TF_StringGetSize(target), stdout);
    putchar('\n');
    TF_StringDealloc(TF_TensorData(text));
    TF_DeleteTensor(text);
    TF_DeleteTensor(results[0]);
    TF_DeleteTensor(results[1]);
  }
  free(line);
  TF_CloseSession(session, status);
  check(status);
  TF_DeleteSession(session, status);
  check(status);
  TF_DeleteBuffer(meta_graph);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
