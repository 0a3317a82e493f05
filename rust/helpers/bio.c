// SPDX-License-Identifier: GPL-2.0

void rmpath_bio_clone_blkg_association(struct bio *dst, struct bio *src)
{
	bio_clone_blkg_association(dst, src);
}
