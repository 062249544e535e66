-- include: base activities reading troubles
-- Find instances in a trouble other than `suspended`, a part of what is held at a time, so that no
-- other client waits for all of it. ARGV: the kind; seconds; how many at most; look at how many of
-- what is held, or somewhat more; where to go on, or ''.
-- Returns where to go on, or '', and ids; one may come again in another part.

local where = { trouble = ARGV[1], trouble_after = tonumber(ARGV[2]) }
local ids, onwards = candidates(where, tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5])
return { onwards, ids }
