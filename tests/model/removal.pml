// SPDX-License-Identifier: GPL-2.0
/*
 * How a head of rmpath comes, is put off, and goes: rust/head/{attach,detach,removal,registry}.rs over
 * rust/abstractions/{module,workqueue}.rs. scripts/model.sh has spin look at every order in which this can happen.
 *
 * One identity; PATHS devices with it, which come and go ROUNDS times each; SLOTS structures for heads (a new head may
 * be made while the old one is being taken down); one program that opens the disk, one that writes to the head's
 * attributes, and rmmod. Each of them runs at any speed beside the others.
 *
 * What is one step here is one critical section there: `inner` (with the registry, where both are taken), or one call
 * that is atomic itself (a reference count, the pending bit of a work item). `setup` is held while its owner sleeps,
 * so that is a lock here too. References are counted as they are taken and put; the token of a pending work is one on
 * the head (`refs`) and one on the module (`module`).
 *
 * What must hold:
 *   none is put twice        a count never falls below zero, and nobody uses what has been freed;
 *   none is lost             when everybody is done, the counts are what the heads that are left account for;
 *   nothing after unload     no step of the module's code is made when it is gone, and no timer is left;
 *   each wait ends           a head without a path ends or gets one again: `ends`, under weak fairness.
 *
 * The macros WRONG_* break the protocol, one rule each, to see that this model notices.
 */

#ifndef PATHS
#define PATHS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef OPENS
#define OPENS 1
#endif
#ifndef STORES
#define STORES 2
#endif
#define SLOTS 2

#ifdef TIMERS_FIRE_EARLY
#define DUE(h) true
#else
#define DUE(h) head[h].over
#endif

#define NONE 255

/* State of a head. */
#define FREE 0
#define BUILDING 1
#define LIVE 2
#define PENDING 3
#define DYING 4

/* Of its disk. */
#define NO_DISK 0
#define ADDED 1
#define DELETED 2

/* Of a path in the head's list of members. */
#define NOT 0
#define OPEN 1
#define CLOSING 2

typedef Head {
	byte state;
	byte refs;	/* all Arcs of the head */
	byte setup;	/* who holds the mutex, and 0 for nobody */
	bool delay;	/* delayed_removal_secs is not 0 */
	bool doomed;	/* its removal was asked for */
	bool waits;	/* there is a deadline ... */
	bool over;	/* ... and it has passed */
	bool armed;	/* the removal's item is pending: its timer runs, or it is queued */
	bool running;	/* its function runs */
	bool reap;	/* the item that drops the disk's reference is queued */
	byte disk;
	byte openers;	/* block devices of the disk that are in use */
	byte users;	/* functions of its files that run */
	byte member[PATHS];
};

Head head[SLOTS];
byte registered = NONE;	/* the registry: the head of the identity */
byte module = 0;	/* references on the module */
bool going = false;	/* its unload has begun: none can be had any more */
bool gone = false;	/* its code is no longer there */
byte closers = 0;	/* items that close a path, queued or running */
byte callers = 0;	/* functions of the module's own that its exit waits for by name */

#if PATHS == 2
#define none(h) (head[h].member[0] == NOT && head[h].member[1] == NOT)
#define none_open(h) (head[h].member[0] != OPEN && head[h].member[1] != OPEN)
#else
#define none(h) (head[h].member[0] == NOT && head[h].member[1] == NOT && head[h].member[2] == NOT)
#define none_open(h) (head[h].member[0] != OPEN && head[h].member[1] != OPEN && head[h].member[2] != OPEN)
#endif


#define CODE assert(!gone)

inline get_module() { CODE; module++ }
inline put_module() { CODE; assert(module > 0); module-- }

inline get(h) { CODE; assert(head[h].refs > 0 && head[h].state != FREE); head[h].refs++ }

/* The last one runs the destructor: the number is free again, and then the head's own reference on the module goes. */
inline put(h)
{
	CODE;
	assert(head[h].state != FREE && head[h].refs > 0);
	head[h].refs--;
	if
	:: head[h].refs == 0 ->
		assert(registered != h && !head[h].armed && !head[h].reap && head[h].disk != ADDED);
		assert(head[h].openers == 0 && head[h].users == 0 && none(h));
		head[h].state = FREE;
		head[h].delay = 0;
		head[h].doomed = 0;
		head[h].waits = 0;
		head[h].over = 0;
		head[h].disk = NO_DISK;
		put_module()
	:: else
	fi
}

inline lock_setup(h) { atomic { head[h].setup == 0 -> CODE; head[h].setup = _pid + 1 } }
/* Always within a step: what is dropped at once after it can be dropped with it. */
inline unlock_setup(h) { CODE; assert(head[h].setup == _pid + 1); head[h].setup = 0 }

/*
 * Queue::arm(token, delay): the token's references are the item's, unless it was pending: then one token comes back,
 * and `spare` says so. Whoever asked drops it when the locks are released.
 */
inline arm(h, soon, spare)
{
	CODE;
	get(h);
	get_module();
	head[h].waits = 1;
	head[h].over = soon;
	if
	:: head[h].armed -> spare = 1
	:: else -> head[h].armed = 1
	fi
}

inline drop_token(h) { put(h); put_module() }

inline drop_spare(h, spare)
{
	if
#ifndef WRONG_SPARE_FORGOTTEN
	:: spare -> atomic { drop_token(h); spare = 0 }
#endif
	:: else -> skip
	fi
}

/* Head::tear_down(): `visible` is what everybody can see of it, with a reference of its own. */
inline tear_down(h, visible)
{
	CODE;	/* a grace period; what is parked ends */
	if
	:: visible ->
		/* The folder goes when its files' functions have returned. */
		atomic { head[h].users == 0 -> CODE; visible = 0; put(h) }
	:: else
	fi;
	if
	:: head[h].disk == ADDED -> delete_disk(h)
	:: else
	fi
}

/* del_gendisk(); free_disk() runs when nobody has it open, and queues an item that owns the disk's reference. */
inline delete_disk(h)
{
	atomic {
		CODE;
		assert(head[h].state == DYING && none(h));
		head[h].disk = DELETED;
		if
#ifdef WRONG_DISK_PUT_EARLY
		:: head[h].reap = 1
#else
		:: head[h].openers == 0 -> head[h].reap = 1
		:: else
#endif
		fi
	}
}

/* A device: attached by add_path or discovery, closed later by its own work item. */
proctype Path(byte me)
{
	byte h = NONE;		/* the head, with a reference */
	byte rounds = ROUNDS;
	bool stored = 0;	/* by add_path, whose store holds a reference on the module; else by discovery */
	bool spare = 0;		/* a token that has come back */
	bool unlocked = 0;
	bool visible = 0;
	bool lost = 0;
#ifdef WRONG_ABANDONED_BY_NAME
	byte other;
#endif

again:
	do
	:: rounds == 0 -> goto end_path
	:: rounds > 0 ->
		rounds--;
		if
		:: atomic { !going -> get_module(); stored = 1 }
#ifdef DISCOVERY
		:: atomic { !going -> callers++ }
#endif
		:: atomic { going -> goto end_path }
		fi;
find:
		/* Shared::find_or_create(): a look, then a new one made without the lock, then a look again. */
		atomic {
			CODE;
			if
			:: registered != NONE -> h = registered; get(h); goto found
			:: else
			fi
		};
		atomic {
			CODE;
			if
			:: !going && head[0].state == FREE -> h = 0
			:: !going && head[0].state != FREE && head[1].state == FREE -> h = 1
			:: else -> goto refused	/* -ENODEV, or no memory */
			fi;
			get_module();
			head[h].state = BUILDING;
			head[h].refs = 1;
			/* As new heads have it at the time. */
			if
			:: head[h].delay = 0
			:: head[h].delay = 1
			fi
		};
		atomic {
			CODE;
			if
			:: registered != NONE ->
				put(h);
				h = registered;
				get(h)
			:: else ->
				registered = h;
				get(h)
			fi
		};
found:
		lock_setup(h);
		if
		:: atomic { head[h].state == DYING -> unlock_setup(h); put(h); h = NONE }; goto find
		:: atomic { head[h].state == BUILDING -> CODE }; goto begin
		:: atomic { head[h].state == LIVE || head[h].state == PENDING -> CODE }; goto join
		fi;
begin:
		/* Head::begin(): the first path. What can fail fails here, before the disk is added or after. */
		if
		:: goto abandon
		:: atomic { CODE; get(h); head[h].disk = ADDED }
		fi;
		if
		:: goto abandon
		:: atomic {
				CODE;
				get(h);		/* visible */
				get(h);		/* the path's */
				head[h].member[me] = OPEN;
				head[h].state = LIVE
			}
		fi;
		goto attached;
abandon:
		atomic {
			CODE;
			head[h].state = DYING;
			assert(registered == h);
			registered = NONE;
			put(h)
		};
		/* The disk, if there is one, goes when the path is closed, still under setup. */
		if
		:: head[h].disk == ADDED ->
			delete_disk(h);
			/* It is given up once more; another one of the identity may be there by now. */
#ifdef WRONG_ABANDONED_BY_NAME
			atomic {
				CODE;
				if
				:: registered != NONE -> other = registered; registered = NONE; put(other)
				:: else
				fi
			}
#else
			atomic { CODE; assert(registered != h) }
#endif
		:: else
		fi;
		atomic { unlock_setup(h) };
		tear_down(h, visible);
		goto refused;
join:
		/* Head::join(): all that can fail comes before the critical section. */
#ifdef WRONG_DISARM_FIRST
		atomic {
			CODE;
			if
			:: head[h].armed -> head[h].armed = 0; spare = 1
			:: else
			fi
		};
		drop_spare(h, spare);
#endif
		if
		:: atomic { head[h].doomed -> CODE }; goto failed
		:: goto failed
		:: atomic {
				CODE;
				get(h);		/* the path's */
				head[h].member[me] = OPEN;
				head[h].state = LIVE;
				head[h].waits = 0;
				/* disarm() */
				if
				:: head[h].armed -> head[h].armed = 0; spare = 1
				:: else
				fi
			}
		fi;
#ifdef WRONG_CANCEL_WITHOUT_PUT
		spare = 0;
#endif
		drop_spare(h, spare);
		goto attached;
failed:
		atomic { unlock_setup(h) };
		goto refused;
attached:
		/* The command is over; what is left is the path, with its reference. Now it may die at any time. */
		atomic {
			unlock_setup(h);
			put(h);
			closers++;
			if
			:: stored -> stored = 0; put_module()
			:: else -> callers--
			fi
		};

		/* The path's work item: Head::withdraw(). */
		lock_setup(h);
#ifdef WRONG_DECIDED_AND_DONE_APART
		atomic {
			CODE;
			head[h].member[me] = CLOSING;
			lost = head[h].state == LIVE && none_open(h);
			unlock_setup(h)
		};
		lock_setup(h);
		atomic {
			CODE;
			if
			:: lost -> head[h].state = PENDING; arm(h, head[h].doomed || !head[h].delay, spare); lost = 0
			:: else
			fi
		};
#else
		atomic {
			CODE;
			head[h].member[me] = CLOSING;
			if
			:: head[h].state == LIVE && none_open(h) ->
				head[h].state = PENDING;
				arm(h, head[h].doomed || !head[h].delay, spare)
			:: else
			fi
		};
#endif
		drop_spare(h, spare);
		atomic { unlock_setup(h) };
		/* A grace period, the I/O in flight, the device: this takes as long as it takes. Then Head::forget(). */
		lock_setup(h);
		atomic {
			CODE;
			head[h].member[me] = NOT;
#ifndef WRONG_NOBODY_COMES_BACK
			if
			:: none(h) && head[h].state == PENDING && head[h].over -> arm(h, 1, spare)
			:: else
			fi
#endif
		};
		drop_spare(h, spare);
		atomic { unlock_setup(h); put(h); h = NONE };
		closers--;
		goto again;
refused:
		atomic {
			if
			:: h != NONE -> put(h); h = NONE
			:: else
			fi;
			if
			:: stored -> stored = 0; put_module()
			:: else -> callers--
			fi
		}
	od;
end_path:
	skip
}

/* The removal's work item: WorkItem<REMOVAL>::run(). */
proctype Removal(byte h)
{
	bool visible = 0;
	bool spare = 0;

end:
	do
	:: atomic { head[h].armed && DUE(h) -> CODE; head[h].armed = 0; head[h].running = 1; get(h) };
		lock_setup(h);
		if
#ifndef WRONG_NOT_DECIDED_ANEW
		:: atomic { head[h].state != PENDING -> unlock_setup(h); put(h); drop_token(h) }
#endif
		:: atomic { head[h].state == PENDING && !head[h].over ->
				/* Again, with the token in hand. */
				if
				:: head[h].armed -> spare = 1
				:: else -> head[h].armed = 1
				fi
			};
			atomic {
				unlock_setup(h);
				put(h);
				if
				:: spare -> drop_token(h); spare = 0
				:: else
				fi
			}
		:: atomic { head[h].state == PENDING && head[h].over && !none(h) ->
				/* Devices are still being closed: who closes the last one comes back to this. I/O fails. */
				assert(none_open(h));
				unlock_setup(h);
				put(h);
				drop_token(h)
			}
		:: atomic {
#ifdef WRONG_NOT_DECIDED_ANEW
				head[h].state != PENDING ||
#endif
				head[h].state == PENDING && head[h].over && none(h) ->
				CODE;
				head[h].state = DYING;
				visible = 1;
				assert(registered == h);
				registered = NONE;
				unlock_setup(h)
			};
			atomic { put(h) };	/* the registry's */
			tear_down(h, visible);
			atomic { put(h); drop_token(h) }
		fi;
		/* The function returns. */
		atomic { CODE; head[h].running = 0 }
	od
}

/* Time passes. */
proctype Clock(byte h)
{
end:
	do
	:: atomic { head[h].waits && !head[h].over -> head[h].over = 1 }
	od
}

/* WorkItem<REAP>: drops what the disk held. */
proctype Reap(byte h)
{
end:
	do
	:: atomic { head[h].reap -> head[h].reap = 0; closers++ };
		atomic { put(h) };
		atomic { CODE; closers-- }
	od
}

/* A program that opens and closes the disk. */
proctype Opener()
{
	byte h = NONE;
	byte opens = OPENS;
	bool opened = 0;

	do
	:: opens == 0 -> break
	:: opens > 0 ->
		opens--;
		/* blkdev_get_no_open() and try_module_get() of the operations' owner. */
		atomic {
			if
			:: head[0].disk == ADDED && !going -> h = 0
			:: head[1].disk == ADDED && !going -> h = 1
			:: goto end_opener
			fi;
			head[h].openers++;
			module++
		};
		/* Operations::open() looks at the state under inner; the block layer, at whether the disk is there. */
		atomic {
			CODE;
			opened = head[h].state != DYING && head[h].disk == ADDED
		};
		if
		:: opened -> atomic { CODE; assert(head[h].state != FREE && head[h].refs > 0); opened = 0 }	/* I/O */
		:: else
		fi;
		/* module_put() comes first. The disk's reference on the head, and so on the module, is still there. */
		atomic { assert(module > 0); module-- };
		atomic {
			assert(head[h].openers > 0);
			head[h].openers--;
			if
			:: head[h].openers == 0 && head[h].disk == DELETED -> CODE; head[h].reap = 1
			:: else
			fi;
			h = NONE
		}
	od;
end_opener:
	skip
}

/* Writes to the attributes of the head: delayed_removal_secs and delete. */
proctype Store()
{
	byte h = NONE;
	byte stores = STORES;
	bool spare = 0;

	do
	:: stores == 0 -> break
	:: stores > 0 ->
		stores--;
		/* The file is there; its folder cannot go until this has returned. */
		atomic {
			if
			:: head[0].disk == ADDED && (head[0].state == LIVE || head[0].state == PENDING) -> h = 0
			:: head[1].disk == ADDED && (head[1].state == LIVE || head[1].state == PENDING) -> h = 1
			:: goto end_store
			fi;
			head[h].users++
		};
		if
		:: atomic {	/* Head::set_delay() */
				CODE;
				if
				:: head[h].delay = 0
				:: head[h].delay = 1
				fi;
				if
				:: head[h].state == PENDING -> arm(h, head[h].doomed || !head[h].delay, spare)
				:: else
				fi
			}
#ifdef DOOM
		:: atomic {	/* Head::doom(); the paths are closed by themselves sooner or later */
				CODE;
				if
				:: head[h].state == PENDING -> head[h].doomed = 1; arm(h, 1, spare)
				:: head[h].state == LIVE -> head[h].doomed = 1
				:: else
				fi
			}
#endif
		fi;
		drop_spare(h, spare);
		atomic { CODE; assert(head[h].users > 0); head[h].users--; h = NONE }
	od;
end_store:
	skip
}

/* rmmod: refused while there are references. Then exit: what is waited for is waited for by name. */
proctype Unload()
{
end:
	atomic { module == 0 -> going = 1 };
	/* The class and discovery. */
	callers == 0;
	atomic {
#ifndef WRONG_EXIT_WAITS_FOR_COUNTS_ONLY
		/* destroy_workqueue() waits for what is queued or runs, but not for timers. */
		closers == 0 && !head[0].running && !head[1].running && !head[0].reap && !head[1].reap;
#endif
		assert(!head[0].armed && !head[1].armed);
		assert(head[0].state == FREE && head[1].state == FREE);
		gone = 1
	}
}

/* When nobody can do anything any more, everything has been given back. */
active proctype Judge()
{
	timeout;
	assert(registered == NONE);
	assert(head[0].state == FREE && head[1].state == FREE);
	assert(module == 0 && closers == 0 && callers == 0);
	assert(gone)
}

init {
	atomic {
		byte i;
		for (i : 0 .. SLOTS - 1) {
			run Removal(i);
			run Clock(i);
			run Reap(i)
		}
		for (i : 0 .. PATHS - 1) {
			run Path(i)
		}
		if
		:: OPENS > 0 -> run Opener()
		:: else
		fi;
		if
		:: STORES > 0 -> run Store()
		:: else
		fi;
		run Unload()
	}
}

ltl ends { [] (head[0].state == PENDING -> <> (head[0].state != PENDING)) && [] (head[1].state == PENDING -> <> (head[1].state != PENDING)) }
