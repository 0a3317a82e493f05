/* SPDX-License-Identifier: GPL-2.0 */
/*
 * bindgen's input: the headers that the kernel crate leaves out, and the
 * prototypes of our helpers. Sorted by the file in rust/helpers/ they are in.
 */
#ifndef RMPATH_HELPER_H
#define RMPATH_HELPER_H

#include <linux/bio.h>
#include <linux/bio-integrity.h>
#include <linux/blk-integrity.h>
#include <linux/blkdev.h>
#include <linux/cpumask.h>
#include <linux/debugfs.h>
#include <linux/device-mapper.h>
#include <linux/hdreg.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/idr.h>
#include <linux/pagemap.h>
#include <linux/part_stat.h>
#include <linux/percpu-refcount.h>
#include <linux/percpu.h>
#include <linux/pr.h>
#include <linux/sched/signal.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/topology.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

/* bio.c */
static const u8 RMPATH_BLK_STS_OK = (__force u8)BLK_STS_OK;
static const u8 RMPATH_BLK_STS_NOTSUPP = (__force u8)BLK_STS_NOTSUPP;
static const u8 RMPATH_BLK_STS_TIMEOUT = (__force u8)BLK_STS_TIMEOUT;
static const u8 RMPATH_BLK_STS_NOSPC = (__force u8)BLK_STS_NOSPC;
static const u8 RMPATH_BLK_STS_TRANSPORT = (__force u8)BLK_STS_TRANSPORT;
static const u8 RMPATH_BLK_STS_TARGET = (__force u8)BLK_STS_TARGET;
static const u8 RMPATH_BLK_STS_RESV_CONFLICT = (__force u8)BLK_STS_RESV_CONFLICT;
static const u8 RMPATH_BLK_STS_MEDIUM = (__force u8)BLK_STS_MEDIUM;
static const u8 RMPATH_BLK_STS_PROTECTION = (__force u8)BLK_STS_PROTECTION;
static const u8 RMPATH_BLK_STS_RESOURCE = (__force u8)BLK_STS_RESOURCE;
static const u8 RMPATH_BLK_STS_IOERR = (__force u8)BLK_STS_IOERR;
static const u8 RMPATH_BLK_STS_AGAIN = (__force u8)BLK_STS_AGAIN;
static const u8 RMPATH_BLK_STS_DEV_RESOURCE = (__force u8)BLK_STS_DEV_RESOURCE;
static const u8 RMPATH_BLK_STS_ZONE_OPEN_RESOURCE = (__force u8)BLK_STS_ZONE_OPEN_RESOURCE;
static const u8 RMPATH_BLK_STS_ZONE_ACTIVE_RESOURCE = (__force u8)BLK_STS_ZONE_ACTIVE_RESOURCE;
static const u8 RMPATH_BLK_STS_OFFLINE = (__force u8)BLK_STS_OFFLINE;
static const u8 RMPATH_BLK_STS_DURATION_LIMIT = (__force u8)BLK_STS_DURATION_LIMIT;
static const u8 RMPATH_BLK_STS_INVAL = (__force u8)BLK_STS_INVAL;
static const u32 RMPATH_REQ_OP_READ = (__force u32)REQ_OP_READ;
static const u32 RMPATH_REQ_RAHEAD = (__force u32)REQ_RAHEAD;
static const u32 RMPATH_REQ_NOWAIT = (__force u32)REQ_NOWAIT;
static const u32 RMPATH_REQ_PREFLUSH = (__force u32)REQ_PREFLUSH;
static const u32 RMPATH_REQ_POLLED = (__force u32)REQ_POLLED;
static const u32 RMPATH_REQ_INTEGRITY = (__force u32)REQ_INTEGRITY;
static const u32 RMPATH_REQ_DRV = (__force u32)REQ_DRV;
static const u32 RMPATH_REQ_ALLOC_CACHE = (__force u32)REQ_ALLOC_CACHE;
static const u32 RMPATH_REQ_FAILFAST_TRANSPORT = (__force u32)REQ_FAILFAST_TRANSPORT;
static const slab_flags_t RMPATH_SLAB_HWCACHE_ALIGN = SLAB_HWCACHE_ALIGN;
static const gfp_t RMPATH_GFP_NOIO = GFP_NOIO;
static const gfp_t RMPATH_GFP_TRY = GFP_NOWAIT | __GFP_NOMEMALLOC | __GFP_NORETRY;
bool rmpath_bio_is_write(struct bio *bio);
void rmpath_bio_account_flush(struct bio *bio, unsigned long nsecs);
void rmpath_bio_clone_blkg_association(struct bio *dst, struct bio *src);
#ifdef CONFIG_TRACEPOINTS
extern struct tracepoint __tracepoint_block_bio_remap;
extern struct tracepoint __tracepoint_block_bio_complete;
#endif
void rmpath_trace_block_bio_remap(struct bio *bio, struct bio *orig);

/* block_device.c */
static const blk_mode_t RMPATH_BLK_OPEN_READ = BLK_OPEN_READ;
static const blk_mode_t RMPATH_BLK_OPEN_READ_WRITE = BLK_OPEN_READ | BLK_OPEN_WRITE;
struct file *rmpath_get_file(struct file *file);
u64 rmpath_bdev_nr_sectors(struct block_device *bdev);
unsigned int rmpath_bdev_logical_block_size(struct block_device *bdev);
bool rmpath_bdev_is_partition(struct block_device *bdev);
bool rmpath_bdev_is_zoned(struct block_device *bdev);
bool rmpath_bdev_write_cache(struct block_device *bdev);
bool rmpath_bdev_read_only(struct block_device *bdev);
bool rmpath_disk_has_slaves(struct gendisk *disk);
bool rmpath_disk_live(struct gendisk *disk);

/* cpumask.c */
int rmpath_cpumask_parse(const char *buf, struct cpumask *mask);
int rmpath_cpumask_print(char *buf, size_t size, const struct cpumask *mask);
int rmpath_cpu_to_node(unsigned int cpu);

/* debugfs.c */
static const umode_t RMPATH_DEBUGFS_MODE = 0400;
struct dentry *rmpath_debugfs_create_dir(const char *name, struct dentry *parent);
struct dentry *rmpath_debugfs_create_file(const char *name, umode_t mode, struct dentry *parent,
					  void *data, const struct file_operations *fops);
void rmpath_debugfs_remove(struct dentry *dentry);

/* device_mapper.c */
static const u8 RMPATH_BLK_STS_DM_REQUEUE = (__force u8)BLK_STS_DM_REQUEUE;
static const u32 RMPATH_DM_IOCTL = DM_IOCTL;
static const u32 RMPATH_DM_MPATH_PROBE_PATHS = DM_MPATH_PROBE_PATHS;
#ifdef CONFIG_DM_UEVENT
/* drivers/md/dm-uevent.h, which modules outside the tree do not see. */
void dm_path_uevent(unsigned int event_type, struct dm_target *ti, const char *path,
		    unsigned int nr_valid_paths);
#endif
struct bvec_iter *rmpath_bip_iter(struct bio_integrity_payload *bip);

/* gendisk.c */
static const blk_features_t RMPATH_BLK_FEAT_NOWAIT = BLK_FEAT_NOWAIT;
static const blk_features_t RMPATH_BLK_FEAT_POLL = BLK_FEAT_POLL;
static const blk_features_t RMPATH_BLK_FEAT_IO_STAT = BLK_FEAT_IO_STAT;
static const blk_features_t RMPATH_BLK_FEAT_ATOMIC_WRITES = BLK_FEAT_ATOMIC_WRITES;
static const blk_features_t RMPATH_BLK_FEAT_WRITE_CACHE = BLK_FEAT_WRITE_CACHE;
static const blk_features_t RMPATH_BLK_FEAT_FUA = BLK_FEAT_FUA;
static const blk_features_t RMPATH_BLK_FEAT_STABLE_WRITES = BLK_FEAT_STABLE_WRITES;
static const blk_features_t RMPATH_BLK_FEAT_ROTATIONAL = BLK_FEAT_ROTATIONAL;
static const blk_features_t RMPATH_BLK_FEAT_ADD_RANDOM = BLK_FEAT_ADD_RANDOM;
static const blk_flags_t RMPATH_BLK_FLAG_WRITE_CACHE_DISABLED = BLK_FLAG_WRITE_CACHE_DISABLED;
static const blk_flags_t RMPATH_BLK_FLAG_IOSTATS_PASSTHROUGH = BLK_FLAG_IOSTATS_PASSTHROUGH;
void rmpath_disk_set_state(struct gendisk *disk, unsigned int bit);
void rmpath_disk_clear_state(struct gendisk *disk, unsigned int bit);
bool rmpath_queue_limits_trylock(struct request_queue *q);
struct queue_limits rmpath_bdev_limits(struct block_device *bdev);
void rmpath_disk_set_stable_writes(struct gendisk *disk);
bool rmpath_queue_limits_equal(const struct queue_limits *a, const struct queue_limits *b);
void rmpath_mutex_lock(struct mutex *lock);
static const blk_mode_t RMPATH_BLK_OPEN_NDELAY = BLK_OPEN_NDELAY;
void rmpath_set_geometry(struct hd_geometry *geo, unsigned char heads, unsigned char sectors,
			 unsigned short cylinders);
bool rmpath_fatal_signal_pending(void);

/* idr.c */
void rmpath_idr_init(struct idr *idr);
void rmpath_idr_preload_end(void);

/* kunit.c */
void rmpath_kunit_mark_skipped(const char *why);
void rmpath_set_make_it_fail(int value);

/* memalloc.c */
unsigned int rmpath_memalloc_noio_save(void);
void rmpath_memalloc_noio_restore(unsigned int flags);

/* numa.c */
static const u32 RMPATH_LOCAL_DISTANCE = LOCAL_DISTANCE;
int rmpath_numa_node_id(void);
int rmpath_node_distance(int from, int to);
bool rmpath_node_online(int node);
unsigned int rmpath_nr_node_ids(void);
int rmpath_bdev_node(struct block_device *bdev);

/* percpu.c */
u32 rmpath_this_cpu_inc_return_4(u32 __percpu *pcp);
void rmpath_this_cpu_add_4(u32 __percpu *pcp, u32 val);
u32 rmpath_per_cpu_sum_4(u32 __percpu *pcp);
void rmpath_this_cpu_write_4(u32 __percpu *pcp, u32 val);
void *rmpath_this_cpu_take_ptr(void *__percpu *pcp);
bool rmpath_this_cpu_put_ptr(void *__percpu *pcp, void *ptr);
void *rmpath_per_cpu_take_ptr(void *__percpu *pcp, unsigned int cpu);

/* percpu_ref.c */
bool rmpath_percpu_ref_tryget_live(struct percpu_ref *ref);
bool rmpath_percpu_ref_tryget_live_rcu(struct percpu_ref *ref);
void rmpath_percpu_ref_put(struct percpu_ref *ref);
void rmpath_percpu_ref_kill(struct percpu_ref *ref);

/* spinlock.c */
unsigned long rmpath_spin_lock_irqsave(spinlock_t *lock);
bool rmpath_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags);
void rmpath_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags);
bool rmpath_irqs_disabled(void);

/* workqueue.c */
struct workqueue_struct *rmpath_alloc_workqueue(const char *name, unsigned int flags);

/* xarray.c */
unsigned long rmpath_xa_lock_irqsave(struct xarray *xa);
void rmpath_xa_unlock_irqrestore(struct xarray *xa, unsigned long flags);

#endif
