/* sndfile_format.h - audio_format in libsndfile's terms; for the files of this room that call libsndfile. */
#ifndef ACE_AUDIO_SNDFILE_FORMAT_H
#define ACE_AUDIO_SNDFILE_FORMAT_H

#include "audio/audio_format.h"

#include <sndfile.h>

/* Major format and subtype, for SF_INFO.format. */
int audio_format_sndfile(audio_format format);

#endif
