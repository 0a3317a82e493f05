// SPDX-License-Identifier: GPL-2.0
/*
 * The end of a map's wait for a path (rust/dm/timeout.rs): a path fails and is reinstated by two who do not know of each
 * other, while the time of the wait runs out. Whether to wait is decided, and the timer armed or disarmed, under the
 * lock of the map; the timer's work looks again under that lock.
 *
 * What must hold: the wait ends queue_if_no_path only if there is no path, and its time is over; a map that keeps I/O
 * with no path does not do so for ever; each arming's reference is put.
 *
 *   DELETED_OUTSIDE   a path that is reinstated deletes the timer after the lock, as in dm-multipath of Linux 7.2
 *   NOT_LOOKED_AGAIN  the timer's work does not look again, as there
 */

#define ROUNDS 2

bool locked = false;
bool usable = true;		/* there is a path */
bool keeps = true;		/* queue_if_no_path */
bool wait = false;		/* there is a deadline */
bool over = false;		/* it has passed */
bool armed = false;
byte running = 0;
byte refs = 0;

inline lock() { atomic { !locked -> locked = true } }
inline unlock() { locked = false }

/* A token that comes back, because it is armed already, is put. */
inline arm()
{
	d_step {
		if
		:: armed
		:: else -> armed = true; refs++
		fi
	}
}

inline disarm()
{
	d_step {
		if
		:: armed -> armed = false; refs--
		:: else
		fi
	}
}

proctype Failing()
{
	byte n = 0;

	do
	:: n == ROUNDS -> break
	:: else ->
		n++;
		lock();
		usable = false;
		if
		:: keeps && !wait -> wait = true; over = false; arm()
		:: else
		fi;
		unlock()
	od
}

proctype Reinstating()
{
	byte n = 0;

	do
	:: n == ROUNDS -> break
	:: else ->
		n++;
		lock();
		usable = true;
		wait = false;
#ifdef DELETED_OUTSIDE
		unlock();
		disarm()
#else
		disarm();
		unlock()
#endif
	od
}

active proctype Clock()
{
end:	do
	:: d_step { wait && !over -> over = true }
	od
}

/* Cancelling it does not wait for what has begun. */
active proctype Timer()
{
	bool moved;

end:	do
	:: d_step { armed && over -> armed = false; running++ };
		moved = false;
		lock();
#ifdef NOT_LOOKED_AGAIN
		assert(!usable);
		keeps = false;
		wait = false;
#else
		if
		:: !wait
		:: wait && !over ->
			/* It goes on with its own token; if it is armed, that one comes back. */
			d_step {
				if
				:: armed
				:: else -> armed = true; moved = true
				fi
			}
		:: wait && over ->
			assert(!usable);
			keeps = false;
			wait = false
		fi;
#endif
		unlock();
		d_step { running--; if :: !moved -> refs-- :: else fi }
	od
}

active proctype Judge()
{
	timeout;
	assert(usable || !keeps);
	assert(!armed && running == 0 && refs == 0)
}

init {
	atomic { run Failing(); run Reinstating() }
}
