/* lm_profile.h - which of two behaviours the planner follows where the reference implementation has accidents.
 *
 * spec/lm.md 0.3 lists every place where the two differ. Whatever takes no lm_profile is the same in both. */
#ifndef ACE_LM_PROFILE_H
#define ACE_LM_PROFILE_H

typedef enum lm_profile {
    LM_PROFILE_DEFAULT, /* the reference's behaviour without its bugs */
    LM_PROFILE_OFFICIAL /* the reference's behaviour, bug for bug, to be compared with it */
} lm_profile;

#endif
