-- include: base fenced activities limiting relimiting
-- Set a limit. ARGV: nonce, again, source, new version, kind, name, packed Limit, its per, whether it
-- has a key.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before
end
store_limit(ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9] == '1')
publish(ARGV[3])
return answer(ARGV[1], 1)
