-- include: base fenced activities instances sharing ending
-- Create instances. ARGV: nonce, again, source, new instances, 1 if the ids of finished ones may be
-- used again, and to end those first that have the ids: the outcome, and the two parts of the event
-- for its parent (see `terminate_family`), or '' for each. Returns 1 or 0 for each.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before
end
local reuse, replacing = ARGV[5] == '1', ARGV[6]
local reply, changed = {}, false
local wanted = cmsgpack.unpack(ARGV[4])
if replacing ~= '' then
  for _, new in ipairs(wanted) do
    local top = open_row(new.id)
    if top then
      changed = true
      terminate_family(new.id, top, replacing, ARGV[7], ARGV[8])
    end
  end
end
for n, new in ipairs(wanted) do
  reply[n] = create_one(new, reuse) and 1 or 0
  changed = changed or reply[n] == 1
end
flush()
if changed then
  publish(ARGV[3])
end
return answer(ARGV[1], reply)
