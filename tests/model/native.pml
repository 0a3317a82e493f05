// SPDX-License-Identifier: GPL-2.0
/*
 * The same as removal.pml for native NVMe multipath as it is in Linux 7.2: nvme_init_ns_head(), nvme_alloc_ns() and
 * nvme_ns_remove() in drivers/nvme/host/core.c, nvme_mpath_remove_disk(), nvme_remove_head(), nvme_remove_head_work()
 * and delayed_removal_secs_store() in multipath.c. It is here to show that this kind of model finds what is wrong
 * there: scripts/model.sh expects a counterexample for each CHECK_* but the baseline.
 *
 * One step is one section of subsys->lock, or one call that is atomic itself. `module` counts what the pending removal
 * holds. Each CHECK looks for one thing:
 *
 *   CHECK_LEAK      the removal's references on the module are all put in the end
 *   CHECK_PUT       no reference on a head is put twice
 *   CHECK_ORPHAN    no disk is left without a path and without a pending removal, nor is its head freed under it
 *   CHECK_FOUND     a head whose removal is delayed can be found by a path that returns
 *   CHECK_OBEY      what is written holds for a removal that is pending
 *
 *   FAILING         attaching may fail after the path was listed
 *   STORING         delayed_removal_secs is written
 */

#ifndef PATHS
#define PATHS 2
#endif
#define SLOTS 2
#define NONE 255

/* Of a head's disk. */
#define NO_DISK 0
#define ADDED 1
#define DELETED 2

typedef Head {
	bool used;
	byte refs;	/* head->ref */
	bool linked;	/* head->entry is in subsys->nsheads */
	byte disk;	/* NVME_NSHEAD_DISK_LIVE */
	bool delay;	/* delayed_removal_secs, and NVME_NSHEAD_QUEUE_IF_NO_PATH */
	bool armed;	/* remove_work is pending ... */
	bool waits;	/* ... for this delay */
	byte paths;	/* in head->list */
};

Head head[SLOTS];
byte module = 0;

inline put_head(h)
{
	if
	:: head[h].refs > 0 -> head[h].refs--
	:: else ->
#ifdef CHECK_PUT
		assert(false);
#endif
		skip
	fi;
	if
	:: head[h].refs == 0 ->
#ifdef CHECK_ORPHAN
		assert(head[h].disk != ADDED);
#endif
		head[h].used = 0
	:: else
	fi
}

inline remove_head(h)
{
	atomic {
		if
		:: head[h].disk == ADDED -> head[h].disk = DELETED
		:: else
		fi
	};
	atomic { put_head(h) }
}

proctype Path()
{
	byte h = NONE;
	bool last = 0;
	bool remove = 0;

	/* nvme_init_ns_head() */
	atomic {
		if
		:: head[0].linked && head[0].refs > 0 -> h = 0; head[h].refs++
		:: else ->
			if
			:: head[1].linked && head[1].refs > 0 -> h = 1; head[h].refs++
			:: else ->
				if
				:: !head[0].used && head[0].refs == 0 -> h = 0
				:: else ->
					if
					:: !head[1].used && head[1].refs == 0 -> h = 1
					:: else -> goto end_path
					fi
				fi;
				head[h].used = 1;
				head[h].refs = 2;	/* the namespace's, and the disk's */
				head[h].linked = 1;
				head[h].disk = NO_DISK;
				head[h].paths = 0;
				head[h].armed = 0;
				if
				:: head[h].delay = 1
#ifdef STORING
				:: head[h].delay = 0
#endif
				fi
			fi
		fi;
		head[h].paths++
	};
	atomic {
		if
		:: head[h].armed -> head[h].armed = 0; module--
		:: else
		fi
	};
#ifdef FAILING
	if
	:: atomic {	/* nvme_alloc_ns(), out_unlink_ns */
			head[h].paths--;
			if
			:: head[h].paths == 0 -> head[h].linked = 0; last = 1
			:: else
			fi
		};
		if
		:: last -> atomic { put_head(h) }
		:: else
		fi;
		atomic { put_head(h) };
		goto end_path
	:: skip
	fi;
#endif
	/* nvme_mpath_set_live() */
	atomic {
		if
		:: head[h].disk == NO_DISK -> head[h].disk = ADDED
		:: else
		fi
	};

	/* nvme_ns_remove() */
	atomic {
		head[h].paths--;
		if
		:: head[h].paths == 0 ->
			if
			:: !head[h].delay -> head[h].linked = 0
			:: else
			fi;
			last = 1
		:: else
		fi
	};
	/* It sleeps here: for a grace period, and for the I/O in flight. nvme_mpath_remove_disk() */
	if
	:: last ->
		atomic {
			if
			:: head[h].paths != 0
			:: head[h].paths == 0 && head[h].delay ->
#ifdef CHECK_FOUND
				assert(head[h].linked);
#endif
				module++;
				head[h].waits = head[h].delay;
				head[h].armed = 1	/* whatever mod_delayed_work() returns */
			:: head[h].paths == 0 && !head[h].delay -> head[h].linked = 0; remove = 1
			fi
		};
		if
		:: remove -> remove_head(h)
		:: else
		fi
	:: else
	fi;
	atomic { put_head(h) };
end_path:
	skip
}

/* nvme_remove_head_work() */
proctype Removal(byte h)
{
	bool remove = 0;

end:
	do
	:: atomic { head[h].armed -> head[h].armed = 0 };
		atomic {
			if
			:: head[h].paths == 0 -> head[h].linked = 0; remove = 1
			:: else
			fi
		};
		if
		:: remove -> remove_head(h); remove = 0
		:: else
		fi;
		module--
	od
}

/* delayed_removal_secs_store() */
proctype Store()
{
	byte stores = 2;

	do
	:: stores == 0 -> break
	:: stores > 0 ->
		stores--;
		atomic {
			if
			:: head[0].disk == ADDED -> head[0].delay = 0
			:: head[0].disk == ADDED -> head[0].delay = 1
			:: head[1].disk == ADDED -> head[1].delay = 0
			:: head[1].disk == ADDED -> head[1].delay = 1
			:: goto end_store
			fi;
#ifdef CHECK_OBEY
			assert(!head[0].armed || head[0].waits == head[0].delay)
#endif
		}
	od;
end_store:
	skip
}

active proctype Judge()
{
	timeout;
#ifdef CHECK_LEAK
	assert(module == 0);
#endif
#ifdef CHECK_ORPHAN
	assert(head[0].disk != ADDED && head[1].disk != ADDED);
#endif
	skip
}

init {
	atomic {
		byte i;
		for (i : 0 .. SLOTS - 1) {
			run Removal(i)
		}
		for (i : 1 .. PATHS) {
			run Path()
		}
#ifdef STORING
		run Store();
#endif
		skip
	}
}
