/* detect_parts.h - the parts of detect.c, one for each way to learn about devices. */
#ifndef ACE_VRAM_DETECT_PARTS_H
#define ACE_VRAM_DETECT_PARTS_H

#include "vram/detect.h"

/* The next device of the report, zeroed; NULL, and the report is marked, when it is full (one place stays for the CPU).
 */
detect_device *detect_add(detect_machine *machine, detect_kind kind);

/* Cuts control characters and broken UTF-8 out of a text that a driver wrote. */
void detect_clean(char *text);

/* "0000:65:00.0" in lower case from a bus id in any of the usual spellings ("00000000:65:00.0"). "" if it is none. */
void detect_pci_name(const char *bus_id, char pci[20]);

/* NVIDIA's management library, or its driver where that is missing: adds the cards that it shows. What is wrong with it
 * is told by *problem and `detail` (200 bytes), for the cards that the PCI bus shows. */
void detect_nvidia(const detect_places *places, detect_machine *machine, detect_problem *problem, char detail[200]);

/* The PCI bus and /sys/class/drm: adds AMD's and Intel's cards with their memory, and NVIDIA's that the driver did not
 * show, with the reason. */
void detect_bus(const detect_places *places, detect_machine *machine, detect_problem nvidia, const char *nvidia_detail);

/* Who holds memory of AMD's and Intel's cards. */
void detect_drm_users(const detect_places *places, detect_machine *machine);

/* Adds a program to a card's users, largest first. One that is there already has the sum of its amounts when they are
 * `separate` (several clients of one program), else the larger (one amount told twice). 0 bytes: not told. */
void detect_add_user(const detect_places *places, detect_device *device, int pid, uint64_t bytes, bool separate);

/* Adds the CPU with the memory that cgroups (v1 and v2) leave to this process. */
void detect_host(const detect_places *places, detect_machine *machine);

#endif
