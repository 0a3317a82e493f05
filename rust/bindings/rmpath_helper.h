/* SPDX-License-Identifier: GPL-2.0 */
/*
 * bindgen's input: the headers that the kernel crate leaves out, and the
 * prototypes of our helpers. Sorted by the file in rust/helpers/ they are in.
 */
#ifndef RMPATH_HELPER_H
#define RMPATH_HELPER_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/module.h>
#include <linux/workqueue.h>

/* workqueue.c */
struct workqueue_struct *rmpath_alloc_workqueue(const char *name, unsigned int flags);

#endif
