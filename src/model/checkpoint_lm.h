/* checkpoint_lm.h - the planner of a checkpoint: which of several it is. */
#ifndef ACE_MODEL_CHECKPOINT_LM_H
#define ACE_MODEL_CHECKPOINT_LM_H

#include "model/checkpoint_scan.h"

/* The planner to use among those of a scan: the only one, or the only one of 1.7B's dimensions, which is what the
 * official program loads when none is named (lm.md 1.1). NULL with a *problem that says what to do; `where` is what was
 * searched, for that message. */
const found_model *lm_choose_found(const checkpoint_scan *scan, const char *where, ace_error *problem);

/* Lists the paths of all planners of a scan in the checkpoint. */
bool lm_list(ace_checkpoint *checkpoint, const checkpoint_scan *scan, ace_error *error);

#endif
