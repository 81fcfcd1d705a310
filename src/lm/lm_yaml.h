/* lm_yaml.h - writing one line of the plan exactly as PyYAML's dump() does, because the model was trained on that.
 *
 * Plain where possible, else single-quoted, else double-quoted; folded behind column 80. spec/lm.md 3.4 has the rules.
 */
#ifndef ACE_LM_YAML_H
#define ACE_LM_YAML_H

#include "base/text.h"
#include "lm/lm_text.h"

/* Appends "key: value" and a newline, as yaml.dump({key: value}, allow_unicode=True) does for a str. The key is a word
 * of ASCII letters; the value is valid UTF-8, may contain NUL, and takes four bytes of memory a byte while it is
 * written. */
bool lm_yaml_write(ace_text *out, const char *key, lm_slice value, ace_error *error);

#endif
