/* Asks an engine what comes on standard input, and prints what it answers: lines of the number of
   an operation and its document in, lines of a status and a document out. */
#include "icp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    const char *config = "{\"store\":\"memory:\",\"allow_loopback\":true}";
    icp_engine *engine = NULL;
    if (icp_engine_new(ICP_ABI_VERSION, (const uint8_t *)config, strlen(config), &engine, NULL)) {
        return 1;
    }
    static char line[1 << 16];
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *document;
        uint32_t op = (uint32_t)strtoul(line, &document, 10);
        size_t len = strcspn(document, "\n");
        uint8_t *answer = NULL;
        size_t size = 0;
        icp_error *error = NULL;
        int32_t status =
            icp_call(engine, op, (const uint8_t *)document, len, -1, &answer, &size, &error);
        if (status == ICP_OK) {
            printf("%d %.*s\n", status, (int)size, (const char *)answer);
        } else {
            printf("%d %s\n", status, icp_error_json(error));
        }
        fflush(stdout);
        icp_buf_free(answer, size);
        icp_error_free(error);
    }
    icp_engine_free(engine);
    return 0;
}
