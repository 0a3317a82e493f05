// SPDX-License-Identifier: GPL-2.0
/*
 * The time for which a head's I/O waits for a path that is usable (rust/head/no_path.rs), and a path that a probe
 * reinstates: it is on probation until something has come by it, and the time goes on until then.
 *
 * Two bios find the path usable and are sent there, where they may fail it, or wait. A probe reinstates it whenever it
 * has failed. The time may run out, or not. inner and the lock of the deadline are as there; so is the grace period
 * between what is published and the kick.
 *
 * What must hold: the time begins anew only when I/O has come by the path, or has been ended; no bio waits without a
 * timer that will end that, or a kick to come; when I/O has come by the path that is usable, and all has ended, no time
 * is running, and the gate is not closed; each arming's reference is put.
 *
 *   NOT_LOOKED_TWICE  the probe looks at the wait before the grace period only: a bio that was late to begin it stays
 *                     unnoticed
 *   NOT_USABLE        who has come by the path ends the wait though it has failed again
 *   UNLOCKED          looks whether it has before he takes the lock
 *   KICK_FIRST        kicks before the grace period
 *   ENDED_BY_PROBE    the probe ends the wait, as if the path had shown that it works
 *   FORGOTTEN         the timer does so, if it finds the path usable when the time is over
 */

#define BIOS 2
#define FAILURES 2

/* Something is under way, or parked: the timer asks when the time is over and the path on probation. */
#ifdef FORGOTTEN
#define BUSY false
#else
#define BUSY (ended < BIOS)
#endif

bool inner = false, deadline = false;	/* locks */
bool usable = false, probation = false;	/* the path */
bool expired = false;
bool wait = false;			/* there is a deadline */
bool over = false;			/* it has passed */
bool had = false;			/* what waits has had a time already */
bool armed = false;
byte running = 0;
byte refs = 0;
bool reading[BIOS];			/* in a read section */
bool parked[BIOS];
bool counts[BIOS];			/* it is parked, and has begun the time or found it running */
byte ended = 0;
byte failures = 0;
byte kicks = 0;				/* those to come */

inline lock(l) { atomic { !l -> l = true } }
inline unlock(l) { l = false }
/* A token that comes back, because it is armed already, is put. */
inline arm() { d_step { if :: armed :: else -> armed = true; refs++ fi } }
inline disarm() { d_step { if :: armed -> armed = false; refs-- :: else fi } }

inline kick()
{
	d_step { parked[0] = false; counts[0] = false; parked[1] = false; counts[1] = false; kicks-- }
}

inline synchronize() { !reading[0]; !reading[1] }

/* review_wait(), under inner. */
inline review()
{
	if
	:: !usable
#ifdef ENDED_BY_PROBE
	:: usable && probation ->
		expired = false;
		lock(deadline);
		wait = false;
		disarm();
		unlock(deadline)
#else
	:: usable && probation -> expired = false
#endif
	:: usable && !probation ->
		expired = false;
		lock(deadline);
		d_step { wait = false; had = false };
		disarm();
		unlock(deadline)
	fi
}

inline look()
{
	lock(inner);
	review();
	unlock(inner)
}

proctype Bio(byte me)
{
	bool was;

	do
	:: reading[me] = true;
		if
		:: usable ->
			reading[me] = false;
			if
			:: failures < FAILURES ->
				/* It comes back, and tries again at once. */
				d_step { failures++; usable = false }
			:: d_step { was = probation; probation = false; had = false };
				if
				:: was ->
#ifdef UNLOCKED
					was = usable;
#endif
					lock(deadline);
					if
#ifdef NOT_USABLE
					:: true ->
#elif defined(UNLOCKED)
					:: was ->
#else
					:: usable ->
#endif
						d_step { wait = false; had = false };
						disarm()
					:: else
					fi;
					unlock(deadline)
				:: else
				fi;
				break
			fi
		:: else ->
			if
			:: expired -> reading[me] = false; break
			:: else ->
				parked[me] = true;
				lock(deadline);
				if
				:: !wait -> assert(!had); wait = true; had = true; over = false; arm()
				:: else
				fi;
				d_step { deadline = false; if :: parked[me] -> counts[me] = true :: else fi };
				reading[me] = false;
				!parked[me]
			fi
		fi
	od;
	ended++
}

active proctype Probe()
{
end:	do
	:: atomic { !usable && kicks < 3 -> kicks++ };
		/* Not in one step: a bio that was sent before may come back in between. */
		probation = true;
		usable = true;
		look();
#ifdef KICK_FIRST
		kick();
#endif
		synchronize();
#ifndef NOT_LOOKED_TWICE
		look();
#endif
#ifndef KICK_FIRST
		kick()
#endif
	od
}

/* Perhaps no time passes any more. */
active proctype Clock()
{
end:	do
	:: d_step { wait && !over -> over = true }
	:: break
	od
}

active proctype Timer()
{
	bool moved, expires;

end:	do
	:: d_step { armed && over -> armed = false; running++ };
		moved = false;
		expires = false;
		lock(inner);
		lock(deadline);
		if
		:: !wait
		:: wait && (!over || (usable && probation && BUSY)) ->
			d_step { if :: armed :: else -> armed = true; moved = true fi }
		:: wait && over && usable && !(probation && BUSY) ->
			d_step { wait = false; if :: !probation -> had = false :: else fi }
		:: wait && over && !usable -> d_step { wait = false; had = false }; expires = true
		fi;
		unlock(deadline);
		if
		:: expires -> expired = true; kicks++
		:: else
		fi;
		unlock(inner);
		if
		:: expires -> synchronize(); look(); kick()
		:: else
		fi;
		d_step { running--; if :: !moved -> refs-- :: else fi }
	od
}

active proctype Monitor()
{
end:	do
	:: d_step { counts[0] && !armed && running == 0 && kicks == 0 -> assert(false) }
	:: d_step { counts[1] && !armed && running == 0 && kicks == 0 -> assert(false) }
	od
}

active proctype Judge()
{
	timeout;
	assert(ended == BIOS && usable && !expired);
	assert(probation || !wait);
	assert(armed == wait && refs == armed && running == 0)
}

init {
	atomic { run Bio(0); run Bio(1) }
}
