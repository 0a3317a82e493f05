// SPDX-License-Identifier: GPL-2.0

#ifdef CONFIG_BLK_DEV_INTEGRITY
__rust_helper struct bvec_iter *rmpath_bip_iter(struct bio_integrity_payload *bip)
{
	return &bip->bip_iter;
}
#endif
