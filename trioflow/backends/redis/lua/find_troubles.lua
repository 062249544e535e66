-- include: base activities reading troubles
-- Find instances in a trouble other than `suspended`, a part at a time, so that no other client waits
-- for all of it. ARGV: the kind; seconds; look at about how many; where to go on, or ''; how many at
-- most, or '' for all that may be in the trouble.
-- Returns where to go on, or '', and ids, packed; one may come again in another part. Of what may be in
-- the trouble, the seq of each, packed, as well.

local where = { trouble = ARGV[1], trouble_after = tonumber(ARGV[2]) }
local most = tonumber(ARGV[5])
local ids, onwards = candidates(where, tonumber(ARGV[3]), ARGV[4], most)
if most then
  return { onwards, cmsgpack.pack(ids) }
end
local there, seqs, running = {}, {}, P .. 'status:running'
for _, id in ipairs(ids) do
  local seq = redis.call('ZSCORE', running, id)
  if seq then
    there[#there + 1], seqs[#seqs + 1] = id, tonumber(seq)
  end
end
return { onwards, cmsgpack.pack(there), cmsgpack.pack(seqs) }
