// SPDX-License-Identifier: GPL-2.0
/*
 * I/O that finds no path and waits, and news that concerns it: a path has come, or none will (rust/head/io.rs,
 * Head::settle()). Who has the news publishes it, waits for a grace period, and then takes out what waits. Whoever did
 * not see the news was in a read section that began before, and has parked before the grace period was over.
 *
 * What must hold: when everybody is done, nothing waits.
 *
 *   KICK_FIRST  the order of nvme_remove_head() in Linux 7.2 (mended in 7.3), and of all of nvme before 504db087aacc:
 *               take out first, then wait. scripts/model.sh expects a counterexample.
 */

#define SUBMITTERS 2

bool section[SUBMITTERS];	/* each one's RCU read section */
bool news = false;
byte waiting = 0;
byte ended = 0;

proctype Submitter(byte me)
{
	bool seen;

	section[me] = true;
	seen = news;
	if
	:: seen -> ended++
	:: else -> waiting++
	fi;
	section[me] = false
}

/* synchronize_rcu(): each of them has been seen outside of its section. */
inline grace_period()
{
	!section[0];
	!section[1]
}

/* The work item takes all out at once, and sends each one as a submitter does; it sees what it knows itself. */
inline kick() { d_step { ended = ended + waiting; waiting = 0 } }

active proctype Teller()
{
	news = true;
#ifdef KICK_FIRST
	kick();
	grace_period()
#else
	grace_period();
	kick()
#endif
}

active proctype Judge()
{
	timeout;
	assert(waiting == 0 && ended == SUBMITTERS)
}

init {
	atomic { run Submitter(0); run Submitter(1) }
}
