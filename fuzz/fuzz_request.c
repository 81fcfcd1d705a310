/* The request: JSON from strangers, a song's provenance, and audio codes as text. What is accepted must survive a round
 * trip. */
#include "song/prompt.h"
#include "song/request.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ace_error error = {0};
    ace_request *request = ace_request_new(&error), *copy = ace_request_new(&error);
    if (ace_request_read(request, (const char *)data, size, &error)) {
        char *json = ace_request_to_json(request, &error);
        if (!json || !ace_request_set_json(copy, json, strlen(json), &error)) abort();
        char *again = ace_request_to_json(copy, &error);
        if (!again || strcmp(json, again) != 0) abort();
        free(again);
        free(json);
        int32_t *codes;
        int64_t count;
        ace_error refused = {0};
        if (prompt_parse_codes(request_text(request, FIELD_AUDIO_CODES, ""), &codes, &count, &refused))
            for (int64_t i = 0; i < count; i++)
                if (codes[i] < 0 || codes[i] > 63999) abort();
        free(codes);
    } else if (error.status == ACE_OK || !error.message[0]) {
        abort();
    }
    ace_request_free(request);
    ace_request_free(copy);
    return 0;
}
